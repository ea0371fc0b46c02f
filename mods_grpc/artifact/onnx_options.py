"""Session options of ONNX Runtime that the server and training share, so that both run a graph alike.

This package does not import the runtime: the caller passes the `onnxruntime.SessionOptions` to fill.
"""

from typing import Any

LOG_SEVERITY_ERROR = 3


def set_session_options(options: Any, *, threads: int = 1) -> None:
    """Set the options of a session: `threads` per operator, one operator at a time, no busy waiting, errors logged only.

    Args:
        options: An `onnxruntime.SessionOptions`, changed in place.
        threads: Threads per operator. More than one may change the last bits of forecasts.
    """
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = LOG_SEVERITY_ERROR
