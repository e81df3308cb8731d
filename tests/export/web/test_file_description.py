"""What a page is told of a file, and the files that it refuses."""

import numpy as np
import pytest

import export
from export.flatbuffer.graph_editor import GraphEditor
from export.web.file_description import describe_file
from tests.export.dense_models import CLASSES
from tests.export.web.files import NAMES, write
from tests.models import exported, slow_but
from vit_keras import Preprocessing


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def plain(folder):
    """A float file without labels, which can be edited: nothing stands behind it."""
    return write("inner", folder)


def kinds(found):
    keys = ("kind", "head", "activation", "labels", "inverse")
    return {
        output["name"]: {key: output[key] for key in keys if key in output}
        for output in found["outputs"]
    }


def classes(head, activation, **rest):
    return {"kind": "classes", "head": head, "activation": activation, **rest}


EXPECTED = {
    "classes": {
        "logits": classes("softmax", "softmax", labels=NAMES),
        "attention": {"kind": "attention"},
    },
    "inner": {
        "pooled": {"kind": "numbers"},
        "logits": classes("softmax", "softmax"),
        "features": {"kind": "numbers"},
    },
    "probabilities": {"output": classes("softmax", "")},
    "binary": {"output": classes("sigmoid", "sigmoid", labels=["no", "yes"])},
    "labels": {"output": classes("multi_label", "sigmoid", labels=list("xyz"))},
    "values": {"output": {"kind": "values"}},
    "scores": {"output": {"kind": "scores", "labels": list(CLASSES)}},
    "classes_map": {"output": {"kind": "classes_map", "labels": list(CLASSES)}},
    "inverse_depth": {"output": {"kind": "depth", "inverse": True}},
}


FIRST = ("classes", "binary", "values", "classes_map", "inner")


@pytest.mark.parametrize("name", slow_but(FIRST, EXPECTED))
def test_every_kind_of_output(name, folder, file):
    found = describe_file(file if name == "classes" else write(name, folder))
    assert kinds(found) == EXPECTED[name]
    assert found["file"] == f"models/{name}.tflite"


def test_an_int8_file_tells_its_applied_activation(pixels, tmp_path):
    """The softmax stands before the DEQUANTIZE."""
    options = {"scheme": "int8", "calibration": pixels}
    found = describe_file(write("probabilities", tmp_path, **options))
    assert kinds(found) == EXPECTED["probabilities"]
    facts = dict(found["facts"])
    assert (
        facts["Scheme"].startswith("int8 (")
        and "dB" in facts["Parity with the Keras model"]
    )
    assert facts["Calibrated on"] == f"{len(pixels)} images"


def test_input_and_preparation(tmp_path):
    rules = Preprocessing((0.5,), (0.25,), "bilinear", resize="contain")
    model = exported(channels=1, preprocessing=rules, image_size=(32, 48))
    path = tmp_path / "m.tflite"
    export.to_tflite(model, path, target="web", description="eine Probe")
    found = describe_file(path)
    assert found["input"] == {
        **{"height": 32, "width": 48, "channels": 1, "mean": [0.0], "std": [1.0]}
    }
    assert found["preprocessing"] == {
        **{"interpolation": "bilinear", "crop": 1.0, "resize": "contain"},
        **{"padding": [128], "stated": True},
    }
    assert found["description"] == "eine Probe"
    assert dict(found["facts"])["Licence"] == "not stated in the file"


def edited(path, out, change):
    """A copy of a file with a change of its graph."""
    editor = GraphEditor(path.read_bytes())
    change(editor)
    out.write_bytes(editor.content())
    return out


def dynamic(editor):
    (index,) = editor.graph.inputs
    editor.graph.tensors[index].shapeSignature = np.array([-1, 32, 32, 3], "int32")


def custom(editor):
    code = editor.model.operatorCodes[0]
    code.builtinCode, code.deprecatedBuiltinCode = 32, 32  # CUSTOM
    code.customCode = b"FlexErf"


def without_metadata(editor):
    editor.model.metadata = None


CHANGED = {
    "any number of pictures": (
        dynamic,
        r"one picture of a fixed size.*\(-1, 32, 32, 3\)",
    ),
    "an operator of no runtime": (custom, "not a stateless builtin operator"),
    "no metadata": (without_metadata, "no metadata of a picture.*--preprocessing"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_files_are_refused(name, plain, tmp_path):
    change, message = CHANGED[name]
    path = edited(plain, tmp_path / "m.tflite", change)
    with pytest.raises(ValueError, match=message):
        describe_file(path)


EXPORTED = {
    "int8 ends": (
        {"scheme": "int8", "output_dtype": "int8"},
        "input is uint8.*output is int8.*--target web",
    ),
    "uint8 input": ({"scheme": "float32"}, "input is uint8.*--target web"),
    "a batch": (
        {"scheme": "float32", "input_dtype": "float32", "batch": 2},
        r"\(2, 32, 32, 3\).*--target web",
    ),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_files_are_refused_with_the_option_that_fits(name, tflite_of):
    options, message = EXPORTED[name]
    path, _ = tflite_of(**options)
    with pytest.raises(ValueError, match=message):
        describe_file(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="m.tflite' is not there"):
        describe_file(tmp_path / "m.tflite")
    (tmp_path / "m.tflite").write_bytes(b"no model")
    with pytest.raises(ValueError, match="must be a TFLite file"):
        describe_file(tmp_path / "m.tflite")
