"""The metadata inside a `.tflite` file, read back by others than its writer."""

import json
import pathlib
import zipfile

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as litert

import export
import vit_keras
from export.flatbuffer.metadata_schema import pack_metadata, unpack_table
from export.flatbuffer.operators import read_operators
from tests.models import slow_but, tiny
from tests.program import run

HERE = pathlib.Path(__file__).parent
# Written by MediaPipe's own schema: `in_mediapipe.py golden`.
GOLDEN = HERE.parent / "golden" / "tflite-metadata.bin"
LABELS = ["Löwe", "猫", "ein Wort mehr", "🦁", *"efghij"]
FILE = {
    "name": "labels.txt",
    "description": "名",
    "type": "TENSOR_AXIS_LABELS",
    "locale": "ja",
    "version": "2",
}
EXPECTED = {
    "name": "Löwe",
    "description": "e",
    "version": "v3",
    "subgraph_metadata": [
        {
            "name": "g",
            "description": "h",
            "input_tensor_metadata": [
                {
                    "name": "in",
                    "description": "d",
                    "dimension_names": ["height", "width"],
                    "content": {
                        "content_properties": {
                            "ImageProperties": {
                                "color_space": "GRAYSCALE",
                                "default_size": {"width": 640, "height": 480},
                            }
                        }
                    },
                    "process_units": [
                        {
                            "options": {
                                "NormalizationOptions": {
                                    "mean": [127.5, 0.0],
                                    "std": [0.5, 2.0],
                                }
                            }
                        },
                        {},  # a tokenizer, which our part of the schema leaves out
                    ],
                    "stats": {"max": [255.0], "min": [-1.0, 0.5]},
                }
            ],
            "output_tensor_metadata": [
                {
                    "name": "out",
                    "content": {"content_properties": {"FeatureProperties": {}}},
                    "associated_files": [FILE],
                }
            ],
            "associated_files": [FILE],
        }
    ],
    "author": "a",
    "license": "Apache-2.0",
    "associated_files": [FILE],
    "min_parser_version": "1.5.0",
}


@pytest.fixture(scope="module")
def saved(model, pixels):
    """Writes an int8 file with labels and all that a user may say."""
    options = {"calibration": pixels, "labels": LABELS, "output_dtype": "uint8"}
    words = {"description": "zehn Ziffern", "licence": "CC-BY-4.0"}

    def save(path):
        export.to_tflite(model, path, scheme="int8", **options, **words)

    return save


@pytest.fixture(scope="module")
def file(saved, tmp_path_factory):
    path = tmp_path_factory.mktemp("metadata") / "m.tflite"
    saved(path)
    return path


def test_the_reader_reads_what_mediapipe_writes():
    assert unpack_table(GOLDEN.read_bytes(), "ModelMetadata") == EXPECTED


def test_the_writer_writes_what_the_reader_reads():
    written = dict(EXPECTED)
    (graph,) = json.loads(json.dumps(EXPECTED["subgraph_metadata"]))
    graph["input_tensor_metadata"][0]["process_units"].pop()
    written["subgraph_metadata"] = [graph]
    content = pack_metadata(written)
    assert content[4:8] == b"M001"
    assert unpack_table(content, "ModelMetadata") == written


def test_file_says_what_it_is(model, file):
    found = export.read_metadata(file)
    assert found["labels"] == LABELS
    assert found["name"] == model.name
    assert found["description"] == "zehn Ziffern"
    assert found["license"] == "CC-BY-4.0"
    (graph,) = found["subgraph_metadata"]
    (entry,) = graph["input_tensor_metadata"]
    (properties,) = entry["content"]["content_properties"].values()
    assert properties["default_size"] == {"width": 32, "height": 32}
    (unit,) = entry["process_units"]
    # One number for all channels: more, MediaPipe refuses.
    assert unit["options"]["NormalizationOptions"] == {"mean": [0.0], "std": [1.0]}
    made, beside = (
        found["export"],
        json.loads(file.with_name("m.tflite.json").read_text()),
    )
    for name in ("scheme", "input", "output", "preprocessing", "rewrites", "versions"):
        assert made[name] == beside[name]
    assert made["parity"]["sqnr_db"] == pytest.approx(
        beside["parity"]["sqnr_db"], rel=0.005
    )
    assert made["calibration"]["sha256"] == beside["calibration"]["sha256"]
    assert str(file.parent) not in json.dumps(found)  # nothing of this machine


def test_labels_come_along_with_the_model(tmp_path):
    """Those of its configuration, as a checkpoint or a run gave them."""
    path, config = tmp_path / "m.tflite", tiny(classes=3, labels=("cat", "dog", "eel"))
    export.to_tflite(vit_keras.create_model(config), path)
    assert export.read_metadata(path)["labels"] == ["cat", "dog", "eel"]
    export.to_tflite(vit_keras.create_model(config, task="features"), path)
    assert "labels" not in export.read_metadata(path)  # there are no classes


def test_other_readers_find_it(file):
    """LiteRT's schema the flatbuffer, and zip the labels."""
    model = litert.ModelT.InitFromPackedBuf(file.read_bytes(), 0)
    names = [entry.name.decode() for entry in model.metadata]
    entry = model.metadata[names.index("TFLITE_METADATA")]
    content = bytes(model.buffers[entry.buffer].data)
    assert content[4:8] == b"M001"
    assert unpack_table(content, "ModelMetadata")["license"] == "CC-BY-4.0"
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode() == "\n".join(LABELS) + "\n"
        # MediaPipe maps them in memory.
        assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}
    assert read_operators(file)


def test_another_export_is_the_same_bytes(file, saved, tmp_path):
    saved(tmp_path / "m.tflite")
    assert (tmp_path / "m.tflite").read_bytes() == file.read_bytes()


def test_without_preprocessing_nothing_is_said_of_pixels(tmp_path):
    import keras

    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    model, path = keras.Model(inputs, outputs, name="plain"), tmp_path / "m.tflite"
    export.to_tflite(model, path)
    found = export.read_metadata(path)
    assert found["name"] == "plain"
    assert found["subgraph_metadata"] == [
        {
            "input_tensor_metadata": [{"name": "images"}],
            "output_tensor_metadata": [{"name": "output"}],
        }
    ]


def test_label_of_two_lines_is_refused(model, tmp_path):
    labels = ["an end\n", *"bcdefghij"]
    with pytest.raises(ValueError, match="`labels` must be one line each"):
        export.to_tflite(model, tmp_path / "m.tflite", labels=labels)
    assert not list(tmp_path.iterdir())


def test_bad_files(file, tmp_path):
    content, bad = file.read_bytes(), tmp_path / "bad.tflite"
    bad.write_bytes(b"no model at all")
    with pytest.raises(ValueError, match="`path` must be a TFLite file"):
        export.read_metadata(bad)
    bad.write_bytes(content[:1000])
    with pytest.raises(ValueError, match="damaged"):
        export.read_metadata(bad)
    # The archive is gone, of which the model speaks.
    bad.write_bytes(content[: content.rindex(b"PK\x05\x06")])
    with pytest.raises(ValueError, match="damaged.*labels.txt"):
        export.read_metadata(bad)
    bad.write_bytes(content.replace(b"TFLITE_METADATA", b"TFLITE_METADAT_"))
    assert export.read_metadata(bad) == {}


def test_describe(file):
    done = run("vit-export", "describe", file)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == export.read_metadata(file)


def test_mediapipe_reads_what_the_writer_writes(in_mediapipe, tmp_path):
    """By MediaPipe's own schema; and the golden file is what that still writes."""
    written = tmp_path / "ours.bin"
    written.write_bytes(pack_metadata({"name": "Löwe", "associated_files": [FILE]}))
    found = in_mediapipe("unpack", written)
    assert found["name"] == "Löwe"
    assert found["associatedFiles"] == [{**FILE, "type": 2}]
    in_mediapipe("golden", tmp_path / "golden.bin")
    assert (tmp_path / "golden.bin").read_bytes() == GOLDEN.read_bytes()


@pytest.mark.parametrize("entry", slow_but(("float32",), ("uint8", "float32")))
def test_mediapipe_classifies(entry, model, pixels, file, in_mediapipe, tmp_path):
    """It opens the file untouched; its labels and scores are those of LiteRT."""
    images, options = pixels[:8], {"calibration": pixels, "labels": LABELS}
    np.save(tmp_path / "images.npy", images)
    other = tmp_path / "float.tflite"
    export.to_tflite(model, other, input_dtype=entry, **options)
    answers = in_mediapipe("classify", tmp_path / "images.npy", file, other)
    for path in (file, other):
        outputs = export.load(path)(images)
        scores = [[one[label] for label in LABELS] for one in answers[str(path)]]
        # The kernels of two releases of LiteRT: int8 may differ by one step.
        step = 1 / 255 if path == file else 1e-5
        limit = 1.01 * step * np.ptp(outputs)
        np.testing.assert_allclose(scores, outputs, atol=limit, err_msg=path.name)


def test_mediapipe_refuses_int8(tflite_of, pixels, in_mediapipe, tmp_path):
    """As `to_tflite` says; when this fails, it has learnt to."""
    path, _ = tflite_of("int8")
    np.save(tmp_path / "images.npy", pixels[:1])
    (answer,) = in_mediapipe("classify", tmp_path / "images.npy", path).values()
    assert "have type UINT8 or FLOAT32 or BOOL, found INT8" in answer


def test_mediapipe_opens_the_file_of_a_keras_hub_classifier(in_mediapipe, tmp_path):
    hub = pytest.importorskip("keras_hub")
    converter = hub.layers.ImageConverter(
        image_size=(32, 32), scale=1 / 127.5, offset=-1
    )
    backbone = hub.models.ViTBackbone(
        **{"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 1},
        **{"num_heads": 2, "hidden_dim": 32, "mlp_dim": 32},
    )
    classifier = hub.models.ViTImageClassifier(
        backbone=backbone,
        num_classes=4,
        preprocessor=hub.models.ViTImageClassifierPreprocessor(converter),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    np.save(tmp_path / "images.npy", pixels)
    path, labels = tmp_path / "hub.tflite", ["a", "b", "c", "d"]
    export.to_tflite(classifier, path, calibration=pixels, labels=labels)
    (answer,) = in_mediapipe("classify", tmp_path / "images.npy", path).values()
    expected = classifier.predict(pixels, verbose=0)
    for scores, row in zip(answer, expected, strict=True):
        actual = [scores[label] for label in labels]
        np.testing.assert_allclose(actual, row, atol=1e-3 * np.ptp(expected))
