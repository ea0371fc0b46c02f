"""ONNX Runtime: opens models, checks them, and chooses how they run."""
