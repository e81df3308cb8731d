"""The real packages, where they are installed."""

import pytest

from tests import peers


@pytest.fixture
def timm():
    pytest.importorskip("torch", reason="timm needs it")
    peers.without_torchvision()
    return pytest.importorskip("timm", reason="the package that reads this layout")


@pytest.fixture
def hf():
    pytest.importorskip("torch", reason="transformers needs it")
    peers.without_torchvision()
    return pytest.importorskip("transformers", reason="reads this layout")
