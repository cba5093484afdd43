"""Writes a compressed module into an ONNX file that stock ONNX Runtime runs."""
