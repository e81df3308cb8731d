"""Fewer bits: calibration, and quantisation after training."""
