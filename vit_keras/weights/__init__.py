"""Weights from files: one module per layout."""
