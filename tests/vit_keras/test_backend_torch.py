"""The tests pass on PyTorch."""

import keras
import pytest

from tests.vit_keras.backends import pass_on


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="started once, by the run under TensorFlow",
)
def test_the_tests_pass_on_torch():
    pass_on("torch")
