"""A static page that runs `.tflite` files in a browser, by LiteRT.js."""
