"""Quantisation after training and quantisation-aware training."""
