"""Evaluation: run an artefact in its real runtime and compare, time or inspect it.

Works on any `.tflite` file or SavedModel.
"""
