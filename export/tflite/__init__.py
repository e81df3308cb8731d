"""Writing `.tflite` files."""
