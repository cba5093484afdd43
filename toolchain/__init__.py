"""Compress trained ONNX models: prune, quantize, fine-tune, export, verify, measure."""
