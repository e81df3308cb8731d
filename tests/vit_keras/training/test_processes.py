"""Which processes are refused; `test_devices.py` trains with them."""

import keras
import pytest

from vit_keras.presets import get_config
from vit_keras.training.devices import resolve_devices
from vit_keras.training.processes import init_processes


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="the backend that can")
def test_other_backends_name_the_one_that_can(monkeypatch):
    with pytest.raises(ValueError, match="`model_parallel` must be 1 on the backend"):
        resolve_devices(2, 2, get_config("vit_ti16"))
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    with pytest.raises(ValueError, match="must be jax"):
        init_processes()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its variable")
def test_workers_of_tensorflow_are_refused(monkeypatch):
    workers = '{"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}}'
    monkeypatch.setenv("TF_CONFIG", workers)
    with pytest.raises(ValueError, match="must be jax"):
        init_processes()
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["127.0.0.1:1"]}}')
    assert init_processes() == (0, 1)
