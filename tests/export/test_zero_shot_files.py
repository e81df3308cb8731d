"""Zero-shot classifiers as files: labels inside, MediaPipe, int8 heads, servers."""

import numpy as np
import pytest

import export
import vit_keras
from export.evaluation.interpreter import new_interpreter
from export.evaluation.reference import predict
from tests.models import exported, slow_but

LABELS = ("Katze", "猫", "a dog", "an owl", "the sea", "words", "fox")
WIDTH = 12
KINDS = {
    "clip": {
        "pre_norm": True,
        "mlp_activation": "quick_gelu",
        "representation_size": WIDTH,
        "representation_activation": "linear",
    },
    "siglip": {"pooling": "map", "mlp_activation": "gelu_tanh"},
}


def zero_shot(kind):
    tower = exported(include_top=False, **KINDS[kind])
    width = tower.output_shape[-1]
    texts = np.random.default_rng(5).normal(size=(len(LABELS), width))
    bias = -2.0 if kind == "siglip" else None
    return vit_keras.zero_shot(tower, texts, LABELS, 20.0, bias)


@pytest.fixture(scope="module", params=KINDS)
def float32(request, pixels, tmp_path_factory):
    """A classifier, its file and its report."""
    classifier, folder = zero_shot(request.param), tmp_path_factory.mktemp("zero_shot")
    path = folder / "m.tflite"
    return classifier, path, export.to_tflite(classifier, path, calibration=pixels)


def test_a_file_gives_what_keras_gives(float32, pixels):
    classifier, path, report = float32
    assert report.parity.sqnr_db > 100 and report.parity.agreement == 1
    assert report.head == classifier.config.head
    assert report.labels == list(LABELS)
    assert export.read_metadata(path)["labels"] == list(LABELS)
    # float32 sums of one order and of another, in probabilities.
    expected = predict(classifier, pixels)
    np.testing.assert_allclose(export.load(path)(pixels), expected, atol=1e-5)


def test_mediapipe_names_the_labels(float32, pixels, in_mediapipe, tmp_path):
    path, images = float32[1], pixels[:4]
    np.save(tmp_path / "images.npy", images)
    answers = in_mediapipe("classify", tmp_path / "images.npy", path)[str(path)]
    scores = [[one[label] for label in LABELS] for one in answers]
    # The kernels of two releases of LiteRT.
    np.testing.assert_allclose(scores, export.load(path)(images), atol=1e-5)


@pytest.mark.parametrize("kind", slow_but(("siglip",), KINDS))
def test_a_saved_model_gives_what_keras_gives(kind, pixels, tmp_path):
    classifier, folder = zero_shot(kind), tmp_path / "vit" / "1"
    report = export.to_saved_model(classifier, folder, calibration=pixels)
    assert report.labels == list(LABELS) and report.parity.agreement == 1
    expected = predict(classifier, pixels)
    np.testing.assert_allclose(export.load(folder)(pixels), expected, atol=1e-5)


@pytest.mark.parametrize("kind", slow_but(("clip",), KINDS))
def test_the_texts_are_int8_each_with_its_own_scale(kind, pixels, tmp_path):
    """Texts are rows of the last kernel; one scale for all would round short ones."""
    classifier, path = zero_shot(kind), tmp_path / "m.tflite"
    report = export.to_tflite(classifier, path, scheme="int8", calibration=pixels)
    # Of random weights, and logits up to 20; 17 and 26 dB are measured.
    assert report.parity.sqnr_db > 12
    kernels = [
        tensor["quantization_parameters"]
        for tensor in new_interpreter(path).get_tensor_details()
        if tensor["dtype"] is np.int8
        and len(tensor["shape"]) == 2
        and tensor["shape"][0] == len(LABELS)
    ]
    (kernel,) = kernels
    assert len(set(kernel["scales"].tolist())) == len(LABELS)
    assert kernel["quantized_dimension"] == 0 and not kernel["zero_points"].any()
