"""Several devices and several processes train as one, on virtual devices of the CPU."""

import keras
import pytest

from tests.vit_keras.training.runs import SHORT
from tests.vit_keras.training.spread import run, same_run
from vit_keras.presets import get_config
from vit_keras.training import devices
from vit_keras.training.steps import check_devices

only_once = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="starts the backends itself"
)


def all_as_one(folder, *names):
    for name in names:
        same_run(folder / "one", folder / name)


@pytest.mark.slow
@only_once
def test_devices_of_tensorflow(tmp_path):
    """Two of them, and one that goes on from their checkpoint."""
    run(tmp_path, "one:1:1", "two-one:2:1!", "two-one:1:1", backend="tensorflow")
    all_as_one(tmp_path, "two-one")


@only_once
@pytest.mark.slow
def test_devices_of_tensorflow_the_other_way_round(tmp_path):
    runs = ("one:1:1", "two:2:1", "one-two:1:1!", "one-two:2:1")
    run(tmp_path, *runs, backend="tensorflow")
    all_as_one(tmp_path, "two", "one-two")


@pytest.mark.slow
@only_once
def test_devices_and_processes_of_jax(tmp_path):
    """Two devices and one that goes on; a split model; two processes."""
    runs = ("one:1:1", "two-one:2:1!", "two-one:1:1", "split:4:2")
    printed = run(tmp_path, *runs, devices=4)
    for line in (
        "split encoderblock_1/attention/query/kernel P(None, 'model') (32, 32)",
        "split encoderblock_1/mlp/dense2/kernel P('model', None) (32, 32)",
        "split head/kernel P(None, None) (32, 10)",
    ):
        assert line in printed.splitlines()
    run(tmp_path, "both:0:1", processes=2)
    all_as_one(tmp_path, "two-one", "split", "both")


@only_once
@pytest.mark.slow
def test_any_of_jax_takes_up_what_another_left(tmp_path):
    """One device, two, a split model and two processes of two devices each."""
    run(
        *(tmp_path, "one:1:1", "two:2:1", "one-two:1:1!", "one-two:2:1"),
        *("one-split:1:1!", "one-split:4:2", "split-one:4:2!", "split-one:1:1"),
        "one-both:1:1!",
        devices=4,
    )
    run(tmp_path, "one-both:0:1", "both-one:0:1!", processes=2, devices=2)
    run(tmp_path, "both-one:1:1")
    all_as_one(tmp_path, "two", "one-two", "one-split", "split-one")
    all_as_one(tmp_path, "one-both", "both-one")


def test_more_devices_than_there_are():
    with pytest.raises(ValueError, match="`devices` must be"), devices.distribute(999):
        pass


def test_one_device_changes_nothing():
    before = keras.distribution.distribution()
    with devices.distribute(1):
        assert keras.distribution.distribution() is before


def test_devices_must_share_a_batch_evenly():
    with pytest.raises(ValueError, match="`batch_size` / `accumulate` must be a mul"):
        check_devices(SHORT, 1000, 3, 1)
    check_devices(SHORT, 1000, 6, 3)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the others can")
def test_devices_of_tensorflow_do_not_accumulate():
    with pytest.raises(ValueError, match="`accumulate` must be 1.*=2, devices=2"):
        check_devices(SHORT.replace(accumulate=2), 1000, 2, 1)
    check_devices(SHORT.replace(accumulate=2), 1000, 1, 1)


@pytest.mark.parametrize(
    "count, parts, name",
    [(3, 2, "devices"), (None, 2, "devices"), (2, 2, "num_heads"), (5, 5, "num_heads")],
)
def test_parts_must_fit(monkeypatch, count, parts, name):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")  # splits there only
    monkeypatch.setattr(devices, "process_index", lambda: (0, 1))
    with pytest.raises(ValueError, match=f"divisor of `{name}`"):  # it has 3 heads
        devices.resolve_devices(count, parts, get_config("vit_ti16"))
