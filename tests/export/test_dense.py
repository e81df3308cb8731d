"""Models with outputs at each pixel as `.tflite` files: the graph and its outputs."""

import collections
import json

import keras
import numpy as np
import pytest
from PIL import Image

import export
from export.evaluation import labelled_masks
from export.evaluation.parity_images import PARITY_VALUES, ParityImages
from export.evaluation.reference import predict
from export.flatbuffer.operators import read_operators
from export.graph.build import inference_graph
from export.graph.find_taps import find_taps
from export.graph.found_vit import as_it_is
from export.graph.rewrites import FOR_INTEGERS, REWRITES
from export.graph.shifts import SHIFTS
from export.graph.up_to_decoder import up_to_decoder
from tests.export.dense_models import CLASSES, SIZE, dense, outlier, pictures
from tests.models import slow_but
from vit_keras.preprocessing import fit_mask
from vit_keras.training.dense_metrics import SegmentationScore

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)

PICTURES = pictures()
ALL = {*REWRITES, *SHIFTS} - {"fold_probe"}  # no decoder has one
NEED_A_NORM = {"centre_writers", "rotate_stream"}
MODELS = {
    "linear": {},
    "linear, taps": {"taps": 4},
    "upconv": {"decoder": "upconv"},
    "upconv, taps": {"decoder": "upconv", "taps": 4},
    "probabilities": {"taps": 2, "activation": "softmax"},
    "raw taps": {"taps": 2, "tap_norm": False},
    "norm behind the pooling": {"taps": 2, "pooling": "gap", "fc_norm": True},
    "mask": {"decoder": "mask", "decoder_width": 32},
    "dpt": {"decoder": "dpt", "taps": 4, "decoder_width": 16},
    "dpt, readout": {
        **{"decoder": "dpt", "taps": 4, "decoder_width": 16, "readout": "project"}
    },
    "eomt": {"decoder": "eomt", "decoder_depth": 2, "decoder_queries": 7},
    "depth": {"task": "depth", "taps": 2},
    "features": {"task": "features", "taps": 3},
    "raw features": {"task": "features", "taps": 3, "tap_norm": False},
}

# Where the number of blocks is of no account.
TWO_BLOCKS = {"num_layers": 2, "taps": 2}
PARTS = {"linear", "upconv", "probabilities", "dpt", "raw features"}  # of others


def sqnr(reference, found):
    reference, found = np.asarray(reference, "float64"), np.asarray(found, "float64")
    power = np.sum((reference - reference.mean()) ** 2)
    return 10 * np.log10(power / np.sum((reference - found) ** 2))


def names_of(path):
    return [operator.name for operator in read_operators(path)]


@pytest.mark.parametrize("name", slow_but(set(MODELS) - PARTS, MODELS))
def test_all_rewrites_are_exact(name):
    model, pixels = dense(**MODELS[name]), PICTURES[:2].astype("float32")
    inside = model.config.preprocessing
    graph = inference_graph(model, inside, pixels)
    reference = as_it_is(model, inside)(pixels)
    # Only the order of float32 operations differs.
    assert sqnr(reference, graph.function(pixels)) > 110
    raw = "raw" in name or "norm behind" in name
    assert set(graph.rewrites) == ALL - (NEED_A_NORM if raw else set())
    assert any("outliers" in note for note in graph.notes) == raw


def test_queries_and_a_readout_are_readers_too():
    taps = find_taps(dense(**MODELS["eomt"]))
    queries = taps.queries
    assert queries and queries.before == 2 and queries.tokens.shape == (7, 32)
    # Of the queries, for classes and masks, and of the patches.
    parts = [(reader.start, reader.stop) for reader in taps.readers]
    assert sorted(parts, key=str) == [(0, 7), (0, 7), (9, None)]
    taps = find_taps(dense(**MODELS["dpt, readout"]))
    parts = [(reader.start, reader.stop) for reader in taps.readers]
    assert parts == 4 * [(2, None), (0, 1)]


@pytest.mark.parametrize("name", ["linear, taps", "raw taps", "features"])
def test_readers_are_found_by_their_place(name):
    model = dense(**MODELS[name])
    taps = find_taps(model)
    assert (taps.norm is None) == ("raw" in name)
    if name == "features":  # nothing linear reads them
        assert [reader.blocks for reader in taps.readers] == [(0,), (1,), (3,)]
        return
    (reader,) = taps.readers
    assert reader.blocks == model.config.tap_blocks and (reader.start, reader.stop) == (
        2,
        None,
    )
    np.testing.assert_array_equal(
        reader.linear.kernel, model.get_layer("decoder_head").kernel
    )


def by_hand(join):
    """A decoder of somebody else on two taps of a ViT, in a model without its class."""
    vit = dense("features", taps=2)
    taps = [vit.get_layer(f"encoderblock_{i}").output for i in (1, 3)]
    norm = vit.get_layer("encoder_norm")
    from vit_keras.layers import PatchTokens

    patches = PatchTokens(2)
    parts = [patches(norm(tap)) for tap in taps]
    return vit, keras.Model(vit.input, join(parts))


def one_projection_per_tap(parts):
    parts = [
        keras.layers.Dense(8, "relu", name=f"project_{i}")(x)
        for i, x in enumerate(parts)
    ]
    return keras.layers.Reshape((4, 6, 8))(keras.layers.Add()(parts))


def no_projection(parts):
    return keras.layers.Reshape((4, 6, 32))(keras.layers.Multiply()(parts))


def both(parts):
    return keras.layers.Add()(
        [no_projection([keras.layers.Dense(32)(parts[0]), parts[1]])]
    )


@pytest.mark.parametrize("join", [one_projection_per_tap, no_projection, both])
def test_decoders_of_others_keep_the_rewrites(join):
    vit, model = by_hand(join)
    pixels = PICTURES[:2].astype("float32")
    inside = vit.config.preprocessing
    graph = inference_graph(model, inside, pixels)
    assert set(graph.rewrites) == ALL
    assert sqnr(as_it_is(model, inside)(pixels), graph.function(pixels)) > 110


@pytest.mark.slow
def test_tokens_that_join_between_blocks_are_no_plain_vit():
    """Their stream is not centred, and the report says so."""
    vit = dense("features")
    x = vit.get_layer("encoderblock_1").output
    x = keras.layers.Concatenate(axis=1)([x, keras.ops.flip(x, 1)[:, :3]])
    for index in (2, 3):
        x = vit.get_layer(f"encoderblock_{index}")(x)
    x = vit.get_layer("encoder_norm")(x)
    x = keras.layers.Dense(4)(x[:, 2:26])
    model = keras.Model(vit.input, keras.layers.Reshape((4, 6, 4))(x))
    pixels, inside = PICTURES[:2].astype("float32"), vit.config.preprocessing
    graph = inference_graph(model, inside, pixels)
    assert not set(graph.rewrites) & NEED_A_NORM and graph.notes
    assert sqnr(as_it_is(model, inside)(pixels), graph.function(pixels)) > 110


def test_rewrites_keep_an_outlier_from_costing_accuracy(tmp_path, monkeypatch):
    """One channel far larger than the others, as pre-trained ViTs have."""
    model = outlier(dense(taps=4))
    options = {"scheme": "int8", "calibration": PICTURES, "enforce_parity": False}
    path = tmp_path / "m.tflite"
    with_them = export.to_tflite(model, path, **options).parity
    for name in ("centre_writers", *FOR_INTEGERS):
        monkeypatch.setitem(REWRITES, name, lambda weights: False)
    without = export.to_tflite(model, path, **options).parity
    # About 29 and 24 dB.
    assert with_them.sqnr_db > max(26, without.sqnr_db + 3), (with_them, without)


@pytest.mark.parametrize("name", slow_but(("upconv",), ("linear", "upconv")))
def test_float_files(name, tmp_path):
    path = tmp_path / "m.tflite"
    model = dense(**{**MODELS[name], **TWO_BLOCKS})
    report = export.to_tflite(model, path, calibration=PICTURES)
    assert report.parity.sqnr_db > 110 and report.parity.agreement == 1
    assert report.output == f"float32 (1, {SIZE[0]}, {SIZE[1]}, {len(CLASSES)})"
    assert (report.head, report.labels) == ("segmentation", list(CLASSES))


@pytest.mark.parametrize(
    "name", slow_but(("linear, taps",), ("linear, taps", "upconv, taps"))
)
def test_int8_files_are_integers_throughout(name, tmp_path):
    path = tmp_path / "m.tflite"
    model = dense(**{**MODELS[name], **TWO_BLOCKS})
    report = export.to_tflite(model, path, scheme="int8", calibration=PICTURES)
    parity = report.parity
    assert parity.sqnr_db > 20 and (parity.agreement or 0) > 0.9
    counts = collections.Counter(names_of(path))
    assert counts["QUANTIZE"] == 1 and not counts["DEQUANTIZE"]  # of the input
    assert not counts["DEPTH_TO_SPACE"] and counts["RESIZE_BILINEAR"] == 1
    # One layer reads all taps, and no product turns the rotation back.
    expected = 6 * 2 + (3 if "upconv" in name else 1)
    assert counts["FULLY_CONNECTED"] == expected
    assert export.check(path, "npu").passed
    assert export.verify(model, path, PICTURES) == report.parity


def test_size_of_the_decoder(tmp_path):
    model, path = dense(**TWO_BLOCKS, activation="softmax"), tmp_path / "m.tflite"
    report = export.to_tflite(model, path, output_size="decoder", calibration=PICTURES)
    assert report.output == f"float32 (1, 4, 6, {len(CLASSES)})"
    assert report.parity.sqnr_db > 110
    assert any("4x6" in note for note in report.notes)
    assert names_of(path)[-1] == "SOFTMAX"
    assert export.verify(model, path, PICTURES).passed
    errors = export.verify_layers(model, path, PICTURES)
    assert min(error.sqnr_db for error in errors) > 80  # by the parity of float32


@pytest.mark.parametrize(
    ("scheme", "given", "dtype", "ends"),
    [
        ("float32", None, "int32", ["ARG_MAX"]),
        ("int8", "uint8", "uint8", ["ARG_MAX", "CAST"]),
    ],
)
def test_files_that_end_in_classes(scheme, given, dtype, ends, tmp_path):
    model, path = dense(**TWO_BLOCKS), tmp_path / "m.tflite"
    options = {"scheme": scheme, "calibration": PICTURES, "output_dtype": given}
    report = export.to_tflite(model, path, decode="classes", **options)
    assert report.output == f"{dtype} (1, {SIZE[0]}, {SIZE[1]})"
    assert names_of(path)[-len(ends) :] == ends
    found = export.load(path)(PICTURES)
    classes = predict(model, PICTURES).argmax(-1)
    agreement = np.mean(found == classes)
    assert agreement == pytest.approx(report.parity.agreement)
    assert agreement == 1 if scheme == "float32" else agreement > 0.9
    parity = export.verify(model, path, PICTURES)
    assert parity.passed and parity.agreement == pytest.approx(agreement)
    metadata = export.read_metadata(path)
    (graph,) = metadata["subgraph_metadata"]
    (file,) = graph["output_tensor_metadata"][0]["associated_files"]
    assert file["type"] == "TENSOR_VALUE_LABELS"
    assert "custom_metadata" not in graph and metadata["labels"] == list(CLASSES)


@pytest.mark.parametrize("depth_type", ["metric", "inverse"])
def test_a_file_says_what_its_depths_are(depth_type, tmp_path):
    model, path = dense("depth", depth_type=depth_type, num_layers=1), tmp_path
    path /= "m.tflite"
    export.to_tflite(model, path, calibration=PICTURES)
    (graph,) = export.read_metadata(path)["subgraph_metadata"]
    (output,) = graph["output_tensor_metadata"]
    words = {"metric": "distance at each", "inverse": "inverse distance at each"}
    assert output["description"].startswith(words[depth_type])


@pytest.mark.parametrize("size", ["image", "decoder"])
def test_accuracy_drop_is_of_the_mean_iou(size, tmp_path):
    """Masks by the model itself in a folder, whose classes are in another order."""
    model, path = dense(**TWO_BLOCKS), tmp_path / "m.tflite"
    masks = predict(model, PICTURES).argmax(-1).astype("uint8")
    for part, maps in (("images", PICTURES), ("masks", 4 - masks)):
        (tmp_path / "data" / part).mkdir(parents=True)
        for number, pixels in enumerate(maps):
            file = tmp_path / "data" / part / f"{number}.png"
            Image.fromarray(pixels).save(file)
    (tmp_path / "data" / "classes.json").write_text(json.dumps(CLASSES[::-1]))
    report = export.to_tflite(
        *(model, path),
        **{"scheme": "int8", "calibration": PICTURES, "output_size": size},
        **{"accuracy_drop": 40.0, "evaluation": tmp_path / "data"},
    )
    inner = up_to_decoder(model) if size == "decoder" else model
    shape, reading = inner.output_shape[1:3], model.config.preprocessing
    truth = np.stack([fit_mask(mask, shape, reading) for mask in masks])
    ious = []
    for outputs in (predict(inner, PICTURES), export.load(path)(PICTURES)):
        score = SegmentationScore(len(CLASSES))
        score.add(outputs, truth)
        ious.append(score.metrics()["mean_iou"])
    assert report.mixed["unit"] == "points"
    lost = dict(report.mixed["curve"])[len(report.mixed["parts"])]
    assert lost == pytest.approx(100 * (ious[0] - ious[1])) and 0 < lost <= 40
    assert size == "decoder" or ious[0] == 1


def test_accuracy_drop_is_of_as_many_masks_as_fit(tmp_path, monkeypatch):
    bytes_each = 4 * len(CLASSES) * SIZE[0] * SIZE[1]
    monkeypatch.setattr(labelled_masks, "OUTPUT_BYTES", 7 * bytes_each)
    pair = PICTURES, np.zeros((len(PICTURES), *SIZE), int)
    options = {"scheme": "int8", "calibration": PICTURES, "accuracy_drop": 1.0}
    with pytest.raises(ValueError, match="at most 7 images.*Received: 8 images"):
        export.to_tflite(dense(), tmp_path / "m.tflite", evaluation=pair, **options)


def test_a_model_of_other_layers_is_told_what_it_is(tmp_path):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(4, 3, padding="same")(x)
    model, path = keras.Model(inputs, x), tmp_path / "m.tflite"
    plain = export.to_tflite(model, path)
    assert plain.head is None and plain.parity.agreement is None
    told = export.to_tflite(model, path, head="segmentation", labels=list("abcd"))
    assert told.head == "segmentation" and told.parity.agreement == 1
    assert export.read_metadata(path)["labels"] == list("abcd")
    for head in ("softmax", "depth"):
        with pytest.raises(ValueError, match="is no (vector|map)"):
            export.to_tflite(model, path, head=head)


REFUSED = {
    "size of no decoder": ({"task": "features"}, {"output_size": "decoder"}, "none of"),
    "unknown size": ({}, {"output_size": "half"}, "one of image, decoder"),
    "classes of depth": ({"task": "depth"}, {"decode": "classes"}, "classes at each"),
    "unknown decoding": ({}, {"decode": "argmax"}, "`decode` must be one of classes"),
    "a float of classes": (
        {},
        {"decode": "classes", "output_dtype": "float32"},
        "one of int32, uint8",
    ),
    "bytes in a browser": (
        {},
        {"decode": "classes", "target": "web", "output_dtype": "uint8"},
        "must be one of int32 for decode='classes', target='web'",
    ),
    "accuracy on no masks": (
        {},
        {"accuracy_drop": 1.0, "scheme": "int8", "evaluation": (PICTURES, 0)},
        "`evaluation` must be images and masks that fit the model: `masks` must be",
    ),
    "accuracy on other classes": (
        {},
        {
            **{"accuracy_drop": 1.0, "scheme": "int8"},
            "evaluation": (PICTURES, np.full((len(PICTURES), *SIZE), 9)),
        },
        "must have the model's 5 classes",
    ),
    "accuracy of depths": (
        {"task": "depth"},
        {"accuracy_drop": 1.0, "scheme": "int8", "evaluation": (PICTURES, 0)},
        "must be None for a model without classes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name, tmp_path):
    changes, options, message = REFUSED[name]
    options = {"calibration": PICTURES, **options}
    with pytest.raises(ValueError, match=message):
        export.to_tflite(dense(**changes), tmp_path / "m.tflite", **options)


def test_training_as_integers_is_refused_by_name(tmp_path):
    model = dense(taps=2)
    with pytest.raises(ValueError, match="`quantize_aware` takes a model of task"):
        export.quantize_aware(model, PICTURES)
    with pytest.raises(ValueError, match="`to_tf_keras` takes a model of task"):
        from export.compression.keras2.twin import to_tf_keras

        to_tf_keras(model)
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="`compress` takes a model of task"):
        export.compress(tmp_path / "m.keras", "x", method="prune", out=tmp_path / "o")


def test_fewer_images_are_compared_where_outputs_are_large():
    images = ParityImages(np.zeros((40, 2, 2, 3)), "zeros")
    assert len(images.compared((None, 5))) == 32
    assert len(images.compared((None, PARITY_VALUES // 3, 1, 1))) == 3
