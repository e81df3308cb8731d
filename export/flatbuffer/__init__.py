"""Reading and editing `.tflite` flatbuffers."""
