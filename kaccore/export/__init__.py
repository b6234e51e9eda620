"""Trained networks as programs of other runtimes: TorchScript and ONNX."""
