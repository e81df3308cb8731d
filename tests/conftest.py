"""What every run of the tests begins with, and a fixture for those that train."""

import gc

import pytest

from tests.models import eagerly


def pytest_collection_finish():
    """The garbage collector leaves out what the imports made, a million objects.

    TensorFlow's converter collects in full with each file that it writes. Graphs are
    many objects that live long: to look for dead ones 140 times less often takes a
    twentieth of the time away.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 1000)


@pytest.fixture
def eager():
    """Training without graphs, for a test that takes a few steps."""
    with eagerly():
        yield
