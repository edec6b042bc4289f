"""ONNX graphs as networks of torch."""
