"""Proof: run an artefact in its real runtime and compare, time or inspect it.

Reads artefacts and NumPy arrays only, so it works on any `.tflite` or SavedModel.
"""
