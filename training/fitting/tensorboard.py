"""Losses as TensorBoard logs. They are written by TensorFlow itself; only looking at them needs the package tensorboard."""

from collections.abc import Mapping
from pathlib import Path

from mods_grpc.errors import DataError
from training.fitting.fit import EpochListener
from training.network.backend import tf

_NAMES = {"loss": "train", "val_loss": "validation"}


def log_epochs(folder: Path, listener: EpochListener | None = None) -> EpochListener:
    """Make a listener that logs the loss of training and validation, and tells another listener of each epoch too.

    Args:
        folder: Gets a log of each, `train` and `validation`, so that both are in one diagram.
        listener: Told as well.

    Raises:
        DataError: The folder can't be written.
    """
    try:
        writers = {name: tf.summary.create_file_writer(str(folder / part)) for name, part in _NAMES.items()}
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"cannot write TensorBoard logs to {folder}") from error
    # what tensorboard's own tf.summary.scalar writes
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
