"""The tests pass on PyTorch."""

import keras
import pytest

from tests.vit_keras.backends import pass_on

once = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="started once, by the run under TensorFlow",
)
# Every option of a model, files of other libraries, training, and what dense outputs
# compute with.
MOST = ("test_numerics.py", "test_golden.py", "test_fit.py", "test_dense_parts.py")


@once
def test_most_tests_pass_on_torch():
    pass_on("torch", only=MOST)


@pytest.mark.slow
@once
def test_the_tests_pass_on_torch():
    pass_on("torch")
