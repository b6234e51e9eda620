"""Trained networks as programs for other runtimes: TorchScript and ONNX."""
