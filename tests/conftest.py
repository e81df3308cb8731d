"""What every run of the tests begins with, and a fixture for those that train."""

import gc

import pytest

from tests.models import eagerly


def pytest_collection_finish():
    """The garbage collector leaves out what the imports made, a million objects.

    TensorFlow's converter collects in full with each file that it writes.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def eager():
    """Training without graphs, for a test that takes a few steps."""
    with eagerly():
        yield
