"""Models and files of other libraries get the files that ours get."""

import pathlib

import keras
import numpy as np
import pytest
from keras import layers

import export
from export.graph.float_file import float_file
from tests.export.recognition import builders
from tests.models import run, slow_but

# Of `tests/golden/litert-torch/make.py`.
GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "litert-torch"
LITERT_TORCH = sorted(path.stem for path in GOLDEN.glob("*.tflite"))


def pixels_for(model, number=16):
    shape = (number, *model.input_shape[1:])
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


def decibels(expected, outputs):
    error = np.sum((outputs - expected) ** 2)
    return 10 * np.log10(np.var(expected) * expected.size / error)


@pytest.fixture(scope="module")
def tutorial():
    """The ViT tutorial of keras.io as its readers have it: statistics adapted to their
    data, an augmentation in the model, layers of their own; trained for some steps."""
    keras.utils.set_random_seed(0)
    shape = (builders.SIZE, builders.SIZE, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (32, *shape)).astype("float32")
    normalisation = layers.Normalization()
    normalisation.adapt(pixels)
    augmentation = keras.Sequential(
        [normalisation, layers.Resizing(*shape[:2]), layers.RandomFlip()]
    )
    model = builders.tutorial(augmentation)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = np.arange(32) % model.output_shape[-1]
    model.fit(pixels, labels, batch_size=16, epochs=2, verbose=0)
    return model


def test_the_tutorial_s_model_in_float32(tutorial, tmp_path):
    pixels = pixels_for(tutorial)
    report = export.to_tflite(tutorial, tmp_path / "m.tflite", calibration=pixels)
    assert "recognised a ViT" in report.notes[0]
    assert report.parity.sqnr_db >= 110
    assert "from the model's own Normalization" in report.input_meaning
    expected = run(tutorial, pixels.astype("float32"))
    assert decibels(expected, export.load(tmp_path / "m.tflite")(pixels)) >= 100


@pytest.mark.parametrize("scheme", slow_but(("int8",), ("dynamic_int8", "int8")))
def test_the_tutorial_s_model_in_integers(tutorial, scheme, tmp_path):
    pixels = pixels_for(tutorial)
    options = {"target": "npu"} if scheme == "int8" else {}
    path = tmp_path / "m.tflite"
    report = export.to_tflite(
        tutorial, path, scheme=scheme, calibration=pixels, **options
    )
    if scheme == "int8":
        assert report.checked_by and not export.check(path, "npu").unsupported
    expected = run(tutorial, pixels.astype("float32"))
    assert decibels(expected, export.load(path)(pixels)) >= 15


def test_the_tutorial_s_model_as_a_saved_model(tutorial, tmp_path):
    pixels = pixels_for(tutorial)
    report = export.to_saved_model(tutorial, tmp_path / "m", calibration=pixels)
    assert report.parity.sqnr_db >= 100


def test_a_model_that_is_no_plain_vit_says_why(tmp_path):
    keras.utils.set_random_seed(0)
    model = builders.randomise(builders.not_plain("post_norm"))
    report = export.to_tflite(model, tmp_path / "m.tflite")
    assert any(
        "no plain ViT, converted as it is: no norm in front of the attention" in note
        for note in report.notes
    )
    assert report.parity.sqnr_db > 100


@pytest.mark.parametrize(
    ("layout", "scheme"),
    [
        ("NCHW", "int8"),
        pytest.param("NHWC", "int8", marks=pytest.mark.slow),
        pytest.param("NHWC", "float32", marks=pytest.mark.slow),
        pytest.param("NCHW", "float32", marks=pytest.mark.slow),
    ],
)
def test_a_float_file_is_a_source_like_a_model(layout, scheme, tmp_path):
    keras.utils.set_random_seed(0)
    model = builders.randomise(builders.class_token())
    height, width, channels = model.input_shape[1:]
    shape, function = (1, height, width, channels), lambda x: model(x, training=False)
    if layout == "NCHW":
        shape = (1, channels, height, width)
        function = lambda x: model(  # noqa: E731
            keras.ops.transpose(x, (0, 2, 3, 1)), training=False
        )
    source, path = tmp_path / "source.tflite", tmp_path / "m.tflite"
    source.write_bytes(float_file(function, shape))
    pixels = pixels_for(model)
    report = export.to_tflite(
        source, path, scheme=scheme, calibration=pixels, preprocessing="-1..1"
    )
    assert "recognised a ViT" in report.notes[0]
    expected = run(model, pixels / 127.5 - 1)
    outputs = export.load(path)(pixels)
    assert decibels(expected, outputs) > (100 if scheme == "float32" else 15)
    assert export.verify(source, path, pixels).passed


@pytest.mark.parametrize("name", slow_but(("hf-sdpa",), LITERT_TORCH))
def test_a_file_of_litert_torch(name, tmp_path):
    """The reference is what PyTorch computed."""
    source = GOLDEN / f"{name}.tflite"
    with np.load(source.with_suffix(".npz")) as stored:
        images, expected = stored["images"], stored["outputs"]
    if images.shape[1] == 3:
        images = images.transpose(0, 2, 3, 1)
    report = export.to_tflite(source, tmp_path / "m.tflite")
    assert any("recognised a ViT of 2 blocks" in note for note in report.notes)
    outputs = export.load(tmp_path / "m.tflite")(images)
    assert np.abs(outputs - expected).max() < 1e-5 * np.ptp(expected)


def test_a_source_that_is_no_float_file_is_refused(tflite_of, tmp_path):
    quantised, _ = tflite_of("int8")
    source = tmp_path / "q.tflite"
    source.write_bytes(quantised.read_bytes())
    with pytest.raises(ValueError, match="a quantised file; the float one is needed"):
        export.to_tflite(source, tmp_path / "m.tflite")
    source.write_bytes(tflite_of()[0].read_bytes())
    with pytest.raises(ValueError, match=r"takes uint8 \(1, .*input_dtype='float32'"):
        export.to_tflite(source, tmp_path / "m.tflite")
    (tmp_path / "cut.tflite").write_bytes(quantised.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        export.to_tflite(tmp_path / "cut.tflite", tmp_path / "m.tflite")
    (tmp_path / "no.tflite").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ValueError, match="is not"):
        export.to_tflite(tmp_path / "no.tflite", tmp_path / "m.tflite")
    with pytest.raises(FileNotFoundError):
        export.to_tflite(tmp_path / "missing.tflite", tmp_path / "m.tflite")
