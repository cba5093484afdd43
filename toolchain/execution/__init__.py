"""How a graph is executed in PyTorch: resolved to functions, what they do not cover run by ONNX Runtime."""
