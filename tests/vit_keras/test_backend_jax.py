"""The tests pass on JAX."""

import keras
import pytest

from tests.vit_keras.backends import pass_on


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="started once, by the run under TensorFlow",
)
def test_the_tests_pass_on_jax():
    # What is trained on goes on to the last bit after a kill.
    pass_on("jax", "test_resume.py")
