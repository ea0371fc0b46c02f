"""Keras on TensorFlow on the CPU, set up before either is imported: `from training.network.backend import keras, tf`.

With a GPU in sight TensorFlow traces cuDNN's recurrent layers, which have no ONNX form, so it is told to see none. That
leaves the GPU to whatever else runs in the process.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # sums in one order, and no word of it on standard error
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import keras
import tensorflow as tf

tf.config.set_visible_devices([], "GPU")

__all__ = ["keras", "tf"]
