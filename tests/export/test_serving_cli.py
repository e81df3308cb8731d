"""What `vit-export saved-model` writes for a server, of a model made on JAX, too."""

import io
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import export
from tests.export.pictures import oriented
from tests.models import EXPORTED, exported, slow_but
from tests.models import run as ask
from tests.program import run
from tests.vit_keras.backends import FAST
from vit_keras.preprocessing import fit, normalize

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)
import tensorflow as tf
from tensorflow_serving.config import model_server_config_pb2

from export.evaluation.tools.serving_requests import WARMUP, records
from export.serving.server_files import BATCHES, write_serving_files

ROOT = pathlib.Path(__file__).parents[2]
LABELS = [f"class {i}" for i in range(10)]
FROM_JAX = """
import sys
import keras, numpy as np
import export
from tests.models import exported
from vit_keras.preprocessing import normalize
folder, labels = sys.argv[1], sys.argv[2:]
model = exported(num_layers=1)
assert keras.backend.backend() == "jax"
model.save(folder + "/model.keras")
pixels = np.load(folder + "/pixels.npy")
images = normalize(pixels, model.config.preprocessing)
np.save(folder + "/outputs.npy", model.predict(images, verbose=0))
"""
EXPORT = """
report = export.to_saved_model(
    model, folder + "/vit/1", labels=labels, top_k=2, exif=False, warmup=[1, 3],
    signatures=["predict_bytes", "features"],
)
assert report.parity.passed and report.labels == labels, report
assert export.verify(model, folder + "/vit/1", pixels).passed
"""


@pytest.fixture(scope="module", params=slow_but(("tensorflow",), ("tensorflow", "jax")))
def folder(request, tmp_path_factory, pixels):
    """With a model made here, or by a process on JAX, and what it gives."""
    folder = tmp_path_factory.mktemp(request.param)
    np.save(folder / "pixels.npy", pixels[:4])
    (folder / "labels.txt").write_text("\n".join(LABELS))
    if request.param == "jax":
        pytest.importorskip("jax")
        on_jax(FROM_JAX, folder)
        return folder
    model = exported(num_layers=1)
    model.save(folder / "model.keras")
    images = normalize(pixels[:4], model.config.preprocessing)
    np.save(folder / "outputs.npy", ask(model, images))
    return folder


def on_jax(script, folder):
    done = subprocess.run(
        [sys.executable, "-c", script, folder, *LABELS],
        cwd=ROOT,
        env={**os.environ, **FAST, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def check_options(folder, path, sizes):
    """All that both ways asked for is there."""
    signatures = tf.saved_model.load(str(path)).signatures
    assert set(signatures) == {"serving_default", "predict_bytes", "features"}
    images = tf.constant(np.load(folder / "pixels.npy"))
    outputs = signatures["serving_default"](images=images)["output"]
    np.testing.assert_allclose(outputs, np.load(folder / "outputs.npy"), atol=5e-5)
    item = oriented(6)
    found = signatures["predict_bytes"](image_bytes=tf.constant([item]))
    ids = np.argsort(-found["logits"].numpy(), 1)[0, :2]
    assert found["top_labels"].numpy()[0].tolist() == [LABELS[i].encode() for i in ids]
    stored = np.asarray(Image.open(io.BytesIO(item)))
    unturned = fit(stored, (32, 32), EXPORTED.preprocessing)[None]
    outputs = signatures["serving_default"](images=tf.constant(unturned))["output"]
    np.testing.assert_allclose(found["logits"], outputs, atol=5e-5)
    assert {len(value) for _, _, value in records(path / WARMUP, tf)} == set(sizes)


@pytest.mark.slow
def test_model_of_jax(folder):
    on_jax(FROM_JAX + EXPORT, folder)
    check_options(folder, folder / "vit" / "1", (1, 3))


def test_command_line_writes_all(folder):
    out, deploy = folder / "vit" / "2", folder / "deploy"
    done = run(
        *("vit-export", "saved-model", folder / "model.keras", out),
        *("--serving-dir", deploy),
        *("--top-k", "2", "--no-exif", "--labels", folder / "labels.txt"),
        *("--signatures", "predict_bytes", "--signatures", "features"),
    )
    assert done.returncode == 0, done.stderr
    check_options(folder, out, BATCHES)
    assert (deploy / "README.md").is_file()
    assert json.loads((folder / "vit" / "2.json").read_text())["labels"] == LABELS
    done = run("vit-export", "check", out, "--target", "tf-serving")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def servable(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "vit" / "1"
    export.to_saved_model(exported(num_layers=1), path, signatures=["predict_bytes"])
    return path


def test_files_for_the_server(servable, tmp_path):
    from google.protobuf import text_format

    folder = tmp_path / "deploy"
    write_serving_files(servable, folder)
    text = (folder / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert model.name == "vit" and model.base_path == "/models/vit"
    batching = (folder / "batching_parameters.txt").read_text()
    # The server demands that the last allowed size is the largest.
    assert "max_batch_size { value: 8 }" in batching
    assert batching.strip().endswith("allowed_batch_sizes: 8")
    compose = (folder / "docker-compose.yml").read_text()
    volume = compose.partition("volumes:\n      - ")[2].partition(":/models")[0]
    assert (folder / volume / "1" / "saved_model.pb").is_file()
    assert "tensorflow/serving:2." in compose and "127.0.0.1:8501" in compose
    assert '    environment: {"MALLOC_ARENA_MAX": "2"}\n' in compose
    with pytest.raises(ValueError, match="NAME/VERSION"):
        write_serving_files(tmp_path / "latest", folder)
