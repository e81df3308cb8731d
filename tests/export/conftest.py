"""One small model and real images for all export tests."""

import numpy as np
import pytest

import vit_keras
from tests.models import exported


@pytest.fixture(scope="session")
def model():
    return exported()


@pytest.fixture(scope="session")
def pixels():
    """Real images, enlarged: 48 of the held-out digits, (48, 32, 32, 3) uint8."""
    from vit_keras import data

    digits, _ = data.digits()
    preprocessing = vit_keras.Preprocessing()
    ready, _ = data.prepare(digits.take(np.arange(48)), (32, 32), preprocessing)
    return ready.images
