"""Every documented error is the same on TensorFlow and on JAX."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import export
from export.evaluation.parity import Parity
from tests.export.failures import CASES, attempt, without_quantizer
from tests.models import exported


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pixels):
    """Models that can be exported and models that cannot."""
    folder = tmp_path_factory.mktemp("failures")
    exported().save(folder / "good.keras")
    outliers = exported()
    # Channels that int8 sees and the head does not, as in test_refused.
    position, head = outliers.get_layer("posembed_input"), outliers.get_layer("head")
    embedding, kernel = np.array(position.embedding), np.array(head.kernel)
    embedding[..., :2], kernel[:2] = (1000.0, -1000.0), 0.0
    position.embedding.assign(embedding)
    head.kernel.assign(kernel)
    for constant in (head.bias, outliers.get_layer("encoder_norm").beta):
        constant.assign(np.zeros(constant.shape))
    outliers.save(folder / "outliers.keras")
    pixel_input = keras.Input((8, 8, 3))
    erfinv = keras.ops.erfinv(pixel_input / 300)
    keras.Model(pixel_input, erfinv).save(folder / "erfinv.keras")
    (folder / "broken.keras").write_bytes(b"PK\x03\x04 truncated")
    (folder / "folder").mkdir()
    (folder / "file").write_text("no folder")
    np.save(folder / "pixels.npy", pixels)
    return folder


@pytest.fixture(scope="module")
def on_jax(folder):
    """What happened in each case in a process that runs Keras on JAX."""
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-m", "tests.export.failures", folder],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert found.pop("backend") == "jax"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_error_is_the_same_on_jax(name, folder, on_jax, monkeypatch):
    before = sorted(folder.rglob("*"))
    if name == "MissingDependency":
        monkeypatch.syspath_prepend(without_quantizer(folder))
        monkeypatch.delitem(sys.modules, "litert_quantizer", raising=False)
    found = attempt(name, folder)
    assert found == on_jax[name]
    assert found["type"] == name.split(":")[0]
    assert (found["parity"] is not None) == (name == "ParityError")
    if name == "ParityError":
        assert Parity.from_dict(found["parity"]).sqnr_db < 10
        assert "converting" in found["stages"]  # was shown while it worked
    assert set(folder.rglob("*")) - set(before) <= {
        *(folder / "shim", folder / "shim" / "litert_quantizer.py")
    }


def test_every_documented_error_has_a_case():
    kinds = {name.split(":")[0] for name in CASES}
    for function in (export.to_tflite, export.to_saved_model):
        raises = (function.__doc__ or "").split("Raises:")[1]
        documented = {
            line.strip().split(":")[0]
            for line in raises.splitlines()
            if line.strip()[:1].isupper() and ": " in line
        }
        assert documented and documented <= kinds
