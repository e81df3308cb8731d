"""Writer of `.tflite` files."""
