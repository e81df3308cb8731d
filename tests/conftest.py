"""What every run of the tests begins with."""

import gc


def pytest_collection_finish():
    """The garbage collector leaves out what the imports made, a million objects.

    TensorFlow's converter collects in full with each file that it writes.
    """
    gc.collect()
    gc.freeze()
