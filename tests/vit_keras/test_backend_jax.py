"""The tests pass on JAX."""

import keras
import pytest

from tests.vit_keras.backends import pass_on

once = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="started once, by the run under TensorFlow",
)


@pytest.mark.slow  # ten minutes; `test_backends.py` compares the models of all three
@once
def test_the_tests_pass_on_jax():
    # What is trained on goes on to the last bit after a kill.
    pass_on("jax", "test_resume.py")
