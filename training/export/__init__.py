"""Export of a fitted network: its ONNX graph, parity vectors, calibration and model card, published as a model version."""
