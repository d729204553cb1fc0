"""Models for use without this package: SavedModel, TensorFlow Lite, ONNX; and streams."""
