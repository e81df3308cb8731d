"""Writer of SavedModel directories for TF Serving."""
