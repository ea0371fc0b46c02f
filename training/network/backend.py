"""Keras on TensorFlow on the CPU. Import `keras`, `tf` and `tf2onnx` from here only: they are configured before the import.

GPUs are hidden from TensorFlow: with one it traces cuDNN's recurrent layers, which have no ONNX form. Other libraries in the
process can still use the GPU.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # sums in a fixed order, and no notice of it on standard error
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import keras
import tensorflow as tf
import tf2onnx

tf.config.set_visible_devices([], "GPU")

__all__ = ["keras", "tf", "tf2onnx"]
