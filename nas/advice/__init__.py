"""The expert in the loop: rules that make a network fit a target better, each with its reason and its gain.

Rules on ONNX models are in `blocks`, `widths` and `maps`; `knobs` has their counterpart for architectures of a family.
"""
