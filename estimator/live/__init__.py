"""Measuring and calibrating real devices: this host through ONNX Runtime and TVM, boards through TVM's RPC."""
