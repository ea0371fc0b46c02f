"""Losses as TensorBoard logs, written by TensorFlow itself. Viewing them needs the package tensorboard."""

from collections.abc import Mapping
from pathlib import Path

from mods_grpc.errors import DataError
from training.fitting.checkpoint import EpochListener
from training.network.backend import tf

_NAMES = {"loss": "train", "val_loss": "validation"}


def log_epochs(folder: Path, listener: EpochListener | None = None) -> EpochListener:
    """Make a listener that logs the training and the validation loss, and then calls another listener.

    Args:
        folder: Folder of two logs, `train` and `validation`, which TensorBoard shows in one diagram.
        listener: Called after the losses are logged.

    Raises:
        DataError: The folder can't be written.
    """
    try:
        writers = {name: tf.summary.create_file_writer(str(folder / part)) for name, part in _NAMES.items()}
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"cannot write TensorBoard logs to {folder}") from error
    # the metadata that tensorboard's own tf.summary.scalar writes
    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class="DATA_CLASS_SCALAR"
    )

    def listen(epoch: int, losses: Mapping[str, float]) -> None:
        for name, writer in writers.items():
            with writer.as_default():
                tf.summary.write("epoch_loss", tf.constant(losses[name], tf.float32), step=epoch, metadata=metadata)
            writer.flush()
        if listener:
            listener(epoch, losses)

    return listen
