"""The proof is of what the user runs: `model.predict`, fed what the user feeds it."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import export
import vit_keras
from export.cli import output
from export.inputs import UserInputs
from export.resolve import resolve
from export.tflite import writer
from tests.export.own_layers import Forgetful
from tests.models import exported, run

if keras.backend.backend() != "tensorflow":
    pytest.skip("exports of its own models, in process", allow_module_level=True)


@pytest.fixture(scope="module")
def pixels():
    draws = np.random.default_rng(0)
    return draws.integers(0, 256, (24, 16, 16, 3)).astype("uint8")


def stock(kind=keras.Model, front=None):
    """A small network that does not say what it does to pixels."""
    keras.utils.set_random_seed(0)
    images = x = keras.Input((16, 16, 3))
    x = x if front is None else front(x)
    x = layers.Conv2D(8, 3, activation="relu")(x)
    return kind(images, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


class Normalising(keras.Model):
    """Has a step of its own."""

    def predict_step(self, data):
        images = keras.utils.unpack_x_y_sample_weight(data)[0]
        return self(images / 255 - 1, training=False)


class Reordering(keras.Model):
    """Returns something else."""

    def predict(self, *args, **kwargs):
        return super().predict(*args, **kwargs).argmax(-1)


@pytest.mark.parametrize("kind", [Normalising, Reordering])
def test_a_predict_of_its_own_is_no_part_of_a_file(kind, tmp_path):
    path = tmp_path / "m.tflite"
    with pytest.raises(export.ParityError, match=r"`model\.predict` gives something"):
        export.to_tflite(stock(kind), path)
    assert not path.exists()
    report = export.to_tflite(stock(kind), path, enforce_parity=False)
    assert any("gives something else than its layers" in n for n in report.notes)


def test_a_saved_model_has_no_predict_of_its_own_either(tmp_path):
    options = {"signatures": ["serving_default"]}
    with pytest.raises(export.ParityError, match="predict_step"):
        export.to_saved_model(stock(Normalising), tmp_path / "1", **options)
    plain = stock()
    plain.predict_step = lambda data: 2 * plain(data)  # of the object alone
    with pytest.raises(export.ParityError, match="gives something else"):
        export.to_saved_model(plain, tmp_path / "1", **options)


def in_another_process(model, path, **options):
    """As the export on JAX and torch does, in this process."""
    user = UserInputs(model, **options)
    with user.saved() as inputs:
        kept = json.loads(json.dumps(inputs))  # what the other process gets
        plan = resolve("float32", None, trained=False, has_calibration=False)
        writer.answer_request(kept, path, plan.to_dict())


def test_layers_that_their_file_does_not_describe_are_no_proof(tmp_path):
    """The other process opens a file, and would compare its own model with itself."""
    in_another_process(stock(front=Forgetful()), tmp_path / "m.tflite")
    front = Forgetful()
    front.factor = -0.7  # which `model.keras` does not have
    model = stock(front=front)
    with pytest.raises(export.ParityError, match="their `get_config` leaves something"):
        in_another_process(model, tmp_path / "n.tflite")
    assert not (tmp_path / "n.tflite").exists()


@pytest.mark.parametrize("which", ["second", 1, "all"])
def test_outputs_are_compared_by_name(which, tmp_path):
    images = keras.Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(Forgetful()(images) / 255)
    ends = {"first": layers.Dense(2)(x), "second": layers.Dense(3)(x)}
    if which == 1:
        ends = list(ends.values())
    chosen = {"outputs": "all"} if which == "all" else {"output": which}
    model = keras.Model(images, ends)
    in_another_process(model, tmp_path / "m.tflite", **chosen)
    model.layers[1].factor = 2.0
    model.predict_function = None  # which was traced with 1
    with pytest.raises(export.ParityError, match="gives something else"):
        in_another_process(model, tmp_path / "n.tflite", **chosen)


def test_what_is_inside_a_vit_needs_no_prediction(tmp_path):
    in_another_process(exported(num_layers=1), tmp_path / "m.tflite", outputs="all")
    report = export.report.read_report(tmp_path / "m.tflite")
    assert [end.name for end in report.outputs][0] == "logits"


def test_ranges_of_pixels_are_not_those_of_a_model_fed_others(pixels, tmp_path):
    """Fed 0..1 it would have 14 dB, and a parity of 45 on pixels."""
    options = {"scheme": "int8", "calibration": pixels}
    path = tmp_path / "m.tflite"
    with pytest.raises(ValueError, match=r"must be what `model\.predict` is fed"):
        export.to_tflite(stock(), path, **options)
    export.to_tflite(stock(), path, preprocessing="0..255", **options)
    fed = (pixels / 255).astype("float32")
    report = export.to_tflite(stock(), path, scheme="int8", calibration=fed)
    assert any("tried on values from 0 to 1" in note for note in report.notes)
    expected = run(stock(), fed)
    error = np.abs(export.load(path)(fed) - expected).max()
    assert error < 0.05 * np.ptp(expected)  # 255 steps, of which a few are lost


@pytest.fixture(scope="module")
def labelled(pixels):
    """A ViT whose owner trained it on x / 255, and images with the classes it sees."""
    vit = exported(num_layers=1)
    shape = (24, *vit.input_shape[1:])
    images = np.random.default_rng(1).integers(0, 256, shape).astype("uint8")
    return vit, images, run(vit, images.astype("float32") / 255).argmax(-1)


def test_an_accuracy_shows_what_parity_cannot(labelled, tmp_path, capsys):
    vit, images, classes = labelled
    path, options = tmp_path / "m.tflite", {"evaluation": (images, classes)}
    wrong = export.to_tflite(vit, path, **options)
    assert wrong.parity.passed and wrong.evaluation["model"] < 1
    assert wrong.input_meaning.startswith("uint8 RGB pixels 0..255; x / 127.5 - 1 ins")
    assert wrong.model_input == "float32, x / 127.5 - 1 of RGB pixels x in 0..255"
    right = export.to_tflite(vit, path, preprocessing="0..1", **options)
    assert right.evaluation == {
        **{"metric": "accuracy", "images": 24, "model": 1.0, "file": 1.0}
    }
    assert right.model_input == "float32, x / 255 of RGB pixels x in 0..255"
    kept = export.report.read_report(path)
    assert kept.evaluation == right.evaluation
    assert kept.model_input == right.model_input
    beside = path.with_name("m.tflite.json")
    said = json.loads(beside.read_text())
    for name, value in (
        *(("evaluation", wrong) for wrong in (3, True, {"metric": 1}, {"metric": "a"})),
        ("evaluation", {**said["evaluation"], "model": "high"}),
        ("size_bytes", "large"),
        ("parity", {**said["parity"], "images": None, "sqnr_db": "high"}),
        ("notes", 3),
    ):
        beside.write_text(json.dumps({**said, name: value}))
        with pytest.raises(ValueError, match="is a report of another release"):
            export.report.read_report(path)
    output.print_report(right)
    said = " ".join(capsys.readouterr().out.split())
    for words in ("x / 255 inside", right.model_input, right.evaluation_text):
        assert words in said and words in str(right).replace("\n", " ")


def test_a_saved_model_is_scored_too(labelled, tmp_path):
    vit, images, classes = labelled
    options = {"evaluation": (images, classes), "signatures": ["serving_default"]}
    report = export.to_saved_model(vit, tmp_path / "1", preprocessing="0..1", **options)
    assert report.evaluation["model"] == report.evaluation["file"] == 1.0


def test_without_labelled_images_the_report_offers_them(tmp_path):
    model = stock(front=layers.Rescaling(1 / 255))
    report = export.to_tflite(model, tmp_path / "m.tflite")
    assert report.evaluation is None and "give `evaluation`" in str(report)
    assert report.model_input == "float32 RGB pixels 0..255"
    grey = vit_keras.Preprocessing(mean=(0.5,), std=(0.5,))
    vit = exported(num_layers=1, channels=1, preprocessing=grey)
    meaning = UserInputs(vit).open_model()[1]
    assert meaning.describe_model() == "float32, x / 127.5 - 1 of pixels x in 0..255"
    assert UserInputs(stock()).open_model()[1].describe_model() == "the same"
