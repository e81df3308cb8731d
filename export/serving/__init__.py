"""Writing SavedModel directories for TF Serving."""
