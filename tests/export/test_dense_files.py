"""Models with outputs at each pixel in the hands of others: MediaPipe, servers, JAX."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import export
from export.evaluation.reference import predict
from tests.export.dense_models import CLASSES, SIZE, dense, pictures
from tests.vit_keras.backends import FAST
from vit_keras import heads

PICTURES = pictures()
tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="runs on TensorFlow alone"
)


@pytest.fixture(scope="module")
def model():
    return dense(taps=2, num_layers=2)


@tensorflow
def test_mediapipe_opens_files_untouched(model, in_mediapipe, tmp_path):
    """Labels, categories and confidences; pictures have the size of the model, since
    MediaPipe stretches others."""
    np.save(tmp_path / "images.npy", PICTURES[:3])
    dtypes = {"float32": (), "uint8": ("int8",), "int8": ("int8",)}
    files = {dtype: tmp_path / f"{dtype}.tflite" for dtype in dtypes}
    for dtype, scheme in dtypes.items():
        options = {"scheme": scheme[0] if scheme else "float32", "output_dtype": dtype}
        export.to_tflite(model, files[dtype], calibration=PICTURES, **options)
    found = in_mediapipe("segment", tmp_path / "images.npy", *files.values())
    for dtype, path in files.items():
        seen = found[str(path)]
        assert seen["labels"] == list(CLASSES)
        outputs = export.load(path)(PICTURES[:3])
        categories = np.array([mask[0] for mask in seen["masks"]])
        categories = categories.reshape(outputs.shape[:3])
        np.testing.assert_array_equal(categories, outputs.argmax(-1))
        shares = np.array([mask[1] for mask in seen["masks"]])
        shares = np.moveaxis(shares.reshape(3, len(CLASSES), *SIZE), 1, -1)
        # Their softmax, on the GPU's or CPU's own exp, is within 1e-5.
        expected = heads.probabilities(outputs, "segmentation")
        np.testing.assert_allclose(shares, expected, atol=1e-5)
        if dtype == "float32":
            classes = predict(model, PICTURES[:3]).argmax(-1)
            np.testing.assert_array_equal(categories, classes)


@tensorflow
@pytest.mark.parametrize(
    ("activation", "named"), [("linear", "SOFTMAX"), ("softmax", "NONE")]
)
def test_metadata_says_what_makes_masks(activation, named, tmp_path):
    path = tmp_path / "m.tflite"
    model = dense(activation=activation, num_layers=1)
    export.to_tflite(model, path, calibration=PICTURES)
    metadata = export.read_metadata(path)
    (graph,) = metadata["subgraph_metadata"]
    (custom,) = graph["custom_metadata"]
    assert custom["name"] == "SEGMENTER_METADATA"
    # A flatbuffer does not store zeros.
    assert custom["data"].get("activation", "NONE") == named
    assert metadata["min_parser_version"] == "1.5.0"


@pytest.mark.slow
@tensorflow
def test_saved_model(model, tmp_path):
    report = export.to_saved_model(model, tmp_path / "vit/1", calibration=PICTURES)
    assert report.parity.sqnr_db > 110 and report.parity.agreement == 1
    assert (report.head, report.labels) == ("segmentation", list(CLASSES))
    runner = export.load(tmp_path / "vit/1")
    reference = predict(model, PICTURES)
    np.testing.assert_allclose(runner(PICTURES), reference, atol=1e-4)
    with pytest.raises(ValueError, match="`signatures` may include classify only"):
        export.to_saved_model(model, tmp_path / "vit/2", signatures=["classify"])


@tensorflow
def test_shrink_keeps_the_decoder(model):
    smaller = export.shrink(model, PICTURES, mlp_dim=32)
    assert smaller.output_shape == model.output_shape
    assert smaller.config.mlp_dim == 32 and smaller.task == "segment"
    for name in ("decoder_head", "encoder_norm"):
        for a, b in zip(
            model.get_layer(name).get_weights(),
            smaller.get_layer(name).get_weights(),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


ON_JAX = """
import numpy as np
import export
from tests.export.dense_models import dense, pictures
model = dense(taps=2, num_layers=2)
report = export.to_tflite(model, "m.tflite", scheme="int8", calibration=pictures(),
                          output_size="decoder", decode="classes")
print(report.output, report.head, report.parity.sqnr_db > 20)
"""


@pytest.mark.slow  # `test_cli.py` exports a classifier of JAX
def test_jax_exports_through_a_child(tmp_path):
    pytest.importorskip("jax")
    here = os.getcwd()
    environment = {**os.environ, **FAST, "KERAS_BACKEND": "jax", "PYTHONPATH": here}
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "int32 (1, 4, 6) segmentation True"
