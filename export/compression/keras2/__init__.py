"""A Keras 2 twin of a model, for TensorFlow Model Optimization's public functions."""
