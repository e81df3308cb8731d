"""What an artefact takes: read from the model, put inside once, and said."""

import keras
import numpy as np
import pytest
from keras import layers

import export
import vit_keras
from export.graph.model_input import own_normalisation, read_model_input
from tests.models import exported as two_blocks
from tests.models import run, slow_but
from vit_keras.preprocessing import NORMALISATIONS, formula, get_preprocessing

OWN = "x / 127.5 - 1 inside, from the model's own"


def exported():
    """One block, as what is shown is in front of it."""
    return two_blocks(num_layers=1)


def in_front(name, vit):
    """The ViT with layers in front of it that bring pixels to -1..1."""
    size = (48, 40) if "Resizing" in name else vit.input_shape[1:3]
    images = x = keras.Input((*size, 3))
    if "Resizing" in name:
        x = layers.Resizing(*vit.input_shape[1:3])(x)
    if "Rescaling" in name:
        x = layers.Rescaling(1 / 127.5, -1)(x)
    if "Normalization" in name:
        x = layers.Normalization(mean=[127.5] * 3, variance=[127.5**2] * 3)(x)
    if "arithmetic" in name:
        x = x / 127.5 - 1.0
    if "augmentation" in name:
        x = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)])(x)
    return keras.Model(images, vit(x))


FRONTS = {
    "Rescaling": f"{OWN} Rescaling",
    "Normalization": f"{OWN} Normalization",
    "arithmetic": f"{OWN} TrueDivide and Subtract",
    "Resizing and Rescaling": f"{OWN} Rescaling",
    "Rescaling and augmentation": f"{OWN} Rescaling",
}


@pytest.mark.parametrize(
    "name, scheme",
    slow_but(
        [
            ("Rescaling", "float32"),
            ("arithmetic", "float32"),
            ("Resizing and Rescaling", "int8"),
        ],
        [
            *((name, "float32") for name in FRONTS),
            ("Rescaling", "int8"),
            ("Resizing and Rescaling", "int8"),
        ],
    ),
)
def test_what_is_in_front_of_a_vit_is_not_put_inside_twice(name, scheme, tmp_path):
    vit = exported()
    model = in_front(name, vit)
    pixels = np.random.default_rng(0).integers(0, 256, (16, *model.input_shape[1:]))
    pixels = pixels.astype("uint8")
    path = tmp_path / "m.tflite"
    report = export.to_tflite(model, path, scheme=scheme, calibration=pixels)
    assert report.preprocessing is None
    assert report.input_meaning == f"uint8 RGB pixels 0..255; {FRONTS[name]}"
    assert report.input.startswith("uint8")
    assert report.rewrites[:1] != () and report.input_meaning in str(report)
    # The proof: what the user feeds the model, to the model itself.
    expected = run(model, pixels.astype("float32"))
    outputs = export.load(path)(pixels)
    error = np.abs(outputs - expected).max() / np.ptp(expected)
    assert error < (1e-5 if scheme == "float32" else 0.1)
    assert export.verify(model, path, pixels).passed


def test_a_saved_model_is_not_normalised_twice_either(tmp_path):
    model = in_front("Rescaling", exported())
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    options = {"signatures": ["serving_default"], "calibration": pixels}
    report = export.to_saved_model(model, tmp_path / "saved", **options)
    assert report.input.startswith("uint8") and OWN in report.input_meaning
    expected = run(model, pixels.astype("float32"))
    outputs = export.load(tmp_path / "saved")(pixels)
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


def test_verify_finds_a_file_with_the_wrong_normalisation(tmp_path):
    """Parity must not share the assumption of the file that it judges."""
    vit = exported()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("uint8")
    export.to_tflite(vit, tmp_path / "m.tflite", calibration=pixels)
    twice = in_front("Rescaling", vit)  # what the file would be if it were wrong
    reference = keras.Model(twice.input, twice(twice.input / 127.5 - 1))
    assert not export.verify(reference, tmp_path / "m.tflite", pixels).passed
    assert export.verify(twice, tmp_path / "m.tflite", pixels).passed


def test_an_augmentation_in_front_leaves_the_vit_s_own_preprocessing(tmp_path):
    vit = exported()
    model = in_front("augmentation", vit)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    report = export.to_tflite(model, tmp_path / "m.tflite", calibration=pixels)
    assert report.preprocessing is not None
    normalised = vit_keras.preprocessing.normalize(pixels, vit.config.preprocessing)
    expected = run(vit, normalised)
    outputs = export.load(tmp_path / "m.tflite")(pixels)
    assert np.abs(outputs - expected).max() < 1e-5 * np.ptp(expected)


def test_the_range_a_vit_was_trained_on_has_a_short_name(tmp_path):
    vit = exported()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    path = tmp_path / "m.tflite"
    report = export.to_tflite(vit, path, preprocessing="0..1", calibration=pixels)
    said = "x / 255 inside, from the argument `preprocessing` (0..1)"
    assert report.input_meaning == f"uint8 RGB pixels 0..255; {said}"
    expected = run(vit, pixels / np.float32(255))
    outputs = export.load(path)(pixels)
    assert np.abs(outputs - expected).max() < 1e-5 * np.ptp(expected)


def test_preprocessing_for_a_model_that_normalises_by_itself_is_refused(tmp_path):
    model = in_front("Rescaling", exported())
    with pytest.raises(ValueError, match="its Rescaling computes x / 127.5 - 1"):
        export.to_tflite(model, tmp_path / "m.tflite", preprocessing="0..1")


def test_an_unknown_normalisation_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="-1..1, 0..1, 0..255, imagenet, clip"):
        export.to_tflite(exported(), tmp_path / "m.tflite", preprocessing="0-1")


def test_an_input_whose_meaning_is_not_known_is_left_alone(tmp_path):
    images = keras.Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(images))
    model = keras.Model(images, layers.Dense(3)(x))
    report = export.to_tflite(model, tmp_path / "m.tflite")
    assert report.input.startswith("float32") and report.preprocessing is None
    said = "float32, what the model takes; no normalisation inside"
    assert report.input_meaning == said


def test_statistics_of_images_in_0_to_1_do_not_make_the_input_pixels():
    images = keras.Input((8, 8, 3))
    x = layers.Normalization(mean=[0.5] * 3, variance=[0.25**2] * 3)(images)
    own = own_normalisation(keras.Model(images, layers.Flatten()(x)))
    assert own.layers == ("Normalization",) and not own.takes_pixels
    np.testing.assert_allclose(own.scale, 4.0)


def test_two_readers_of_the_input_have_no_common_meaning():
    vit, images = exported(), keras.Input((32, 32, 3))
    other = layers.Dense(10)(layers.GlobalAveragePooling2D()(images))
    model = keras.Model(images, layers.Add()([vit(images), other]))
    assert not read_model_input(model).takes_pixels


def test_the_image_converter_of_a_keras_hub_task_is_put_inside(tmp_path):
    hub = pytest.importorskip("keras_hub")
    converter = hub.layers.ImageConverter(
        image_size=(32, 32), scale=[0.01, 0.02, 0.03], offset=[-1.0, -2.0, -3.0]
    )
    backbone = hub.models.ViTBackbone(
        **{"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 1},
        **{"num_heads": 2, "hidden_dim": 16, "mlp_dim": 32},
    )
    preprocessor = hub.models.ViTImageClassifierPreprocessor(converter)
    task = hub.models.ViTImageClassifier(
        backbone=backbone, num_classes=5, preprocessor=preprocessor
    )
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    report = export.to_tflite(task, tmp_path / "m.tflite", calibration=pixels)
    assert "from the task's image converter" in report.input_meaning
    expected = task.predict(pixels, verbose=0)
    outputs = export.load(tmp_path / "m.tflite")(pixels)
    assert np.abs(outputs - expected).max() < 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_named_normalisations(name):
    low, high = (get_preprocessing(name).scale_and_offset()[i] for i in (0, 1))
    pixels = np.array([0.0, 255.0])[:, None]
    values = pixels * low + high
    expected = {"-1..1": (-1, 1), "0..1": (0, 1), "0..255": (0, 255)}
    if name in expected:
        np.testing.assert_allclose(values[:, 0], expected[name], atol=1e-12)
    else:  # statistics: photographs get values of order 1
        assert (values[0] < -1.4).all() and (values[1] > 1.8).all()


@pytest.mark.parametrize(
    "name, text",
    {
        "-1..1": "x / 127.5 - 1",
        "0..1": "x / 255",
        "0..255": "x",
        "imagenet": "(x - (123.7, 116.3, 103.5)) / (58.4, 57.12, 57.37)",
    }.items(),
)
def test_the_formula_is_as_people_write_it(name, text):
    assert formula(*get_preprocessing(name).scale_and_offset()) == text
