"""The model for Triton's Python backend, the only backend in the wheel nvidia-pytriton."""

# ruff: noqa: E402 - the path comes first
import os
import sys

sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)  # the backend's interpreter ignores it

import numpy as np
import triton_python_backend_utils as triton
from onnx_session import open_session


class TritonPythonModel:
    def initialize(self, args):
        self._session = open_session(args["model_repository"] + "/model.onnx")

    def execute(self, requests):
        """Run all requests of a dynamic batch in one call."""
        windows = [triton.get_input_tensor_by_name(request, "window").as_numpy() for request in requests]
        batch = windows[0] if len(windows) == 1 else np.concatenate(windows)
        (forecasts,) = self._session.run(["forecast"], {"window": batch})
        ends = np.cumsum([len(window) for window in windows])[:-1]
        parts = np.split(forecasts, ends) if len(ends) else [forecasts]
        return [triton.InferenceResponse([triton.Tensor("forecast", part)]) for part in parts]
