"""A Keras 2 twin, for TensorFlow Model Optimization's public functions."""
