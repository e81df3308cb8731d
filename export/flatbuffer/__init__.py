"""The `.tflite` file as a flatbuffer: read, changed, described."""
