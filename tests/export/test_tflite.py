"""Each scheme through the real LiteRT interpreter, and what the writer refuses."""

import collections
import itertools
import json
import pathlib

import keras
import numpy as np
import pytest

import export
import vit_keras
from export.evaluation.reference import predict
from export.flatbuffer.operators import read_operators
from tests.models import exported, run, slow_but
from vit_keras.preprocessing import normalize

TRAINED = pathlib.Path(__file__).parents[2] / "examples" / "models" / "cifar10"
VARIANTS = {
    "token": {},
    "map": {"pooling": "map"},
    "gap, patch norm": {"pooling": "gap", "patch_norm": True},
    "deit": {"distillation_token": True, "activation": "softmax"},
    "registers, tanh": {"num_register_tokens": 2, "mlp_activation": "gelu_tanh"},
    "sincos, layer scale": {"positions": "sincos2d", "layer_scale_init_value": 0.5},
    "pre_logits": {"representation_size": 24},
    "positions first": {"position_prefix": False, "qkv_bias": False, "head_dim": 8},
    "norms": {"qk_norm": True, "pre_norm": True, "fc_norm": True, "pooling": "gap"},
    "rectangle": {"image_size": (16, 48), "patch_size": (8, 16)},
    "grey": {
        "channels": 1,
        "preprocessing": vit_keras.Preprocessing(mean=(0.1307,), std=(0.3081,)),
    },
    "imagenet": {
        "preprocessing": vit_keras.Preprocessing(
            mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        )
    },
}


def noise(model, number=24, seed=3):
    shape = (number, *model.input_shape[1:])
    return np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")


# Random weights have no structure that int4 could keep.
RANDOM = [name for name in export.SCHEMES if name != "dynamic_int4"]


def few_first(names, few):
    """The parameters of a test, of which all but a few are slow."""
    return [
        pytest.param(name, marks=[] if name in few else [pytest.mark.slow])
        for name in names
    ]


# Norms are in floats in the others, as in `test_float_file_is_equal`.
NORMS_FIRST = few_first(RANDOM, ("int8",))
# `test_each_rewrite_is_exact` compares the graphs of the others.
FLOAT_FIRST = few_first(VARIANTS, ("map",))
# Sizes and normalisations change no operator, and the others only leave some out.
INT8_FIRST = few_first(VARIANTS, ("map", "registers, tanh", "norms"))
FOREIGN_FIRST = few_first(RANDOM, ("float32", "int8"))


@pytest.mark.parametrize("scheme", RANDOM)
def test_scheme_meets_its_threshold_on_other_images(model, others, scheme, tflite_of):
    path, report = tflite_of(scheme)
    assert report.parity.passed
    # Images that took no part in calibration.
    parity = export.verify(model, path, others)
    assert parity.images == 24
    assert parity.threshold_db == export.SCHEMES[scheme].min_sqnr_db
    assert parity.passed, str(parity)


@pytest.mark.parametrize("scheme", NORMS_FIRST)
def test_all_norms_meet_the_threshold(pixels, scheme, tmp_path):
    model, path = exported(**VARIANTS["norms"]), tmp_path / "m.tflite"
    export.to_tflite(model, path, scheme=scheme, calibration=pixels[:24])
    parity = export.verify(model, path, pixels[24:])
    assert parity.passed, str(parity)


@pytest.mark.parametrize("variant", INT8_FIRST)
def test_int8_file_is_integer_only(variant, tmp_path):
    model = exported(**VARIANTS[variant])
    images, path = noise(model), tmp_path / "m.tflite"
    export.to_tflite(model, path, scheme="int8", target="npu", calibration=images)
    found = read_operators(path)
    names = {op.name for op in found}
    assert "NEG" not in names
    assert not names & {"DEQUANTIZE", "CUSTOM", "READ_VARIABLE"}
    # uint8 in: one QUANTIZE at the input, none after it.
    assert [op.name for op in found].count("QUANTIZE") == 1
    assert found[0].name == "QUANTIZE"
    assert found[0].inputs == ("UINT8",) and found[0].outputs == ("INT8",)
    kinds = {kind for op in found for kind in (*op.inputs, *op.outputs)}
    assert not any(kind.startswith("FLOAT") for kind in kinds)


@pytest.mark.parametrize("variant", FLOAT_FIRST)
def test_float_file_is_equal(variant, tmp_path):
    model = exported(**VARIANTS[variant])
    images, path = noise(model, 8), tmp_path / "m.tflite"
    export.to_tflite(model, path)
    expected = run(model, normalize(images, model.config.preprocessing))
    # Folding the normalisation reorders float32 sums: 1e-5 of the largest output.
    limit = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(export.load(path)(images), expected, atol=limit)


def test_features_keep_their_tokens(tmp_path):
    model = exported(task="features", num_layers=1)
    export.to_tflite(model, tmp_path / "m.tflite")
    runner = export.load(tmp_path / "m.tflite")
    assert runner.output_shape == (1, 17, 32)


@pytest.mark.parametrize(
    ("entry", "exit_"),
    slow_but(
        [("uint8", "int8"), ("float32", "float32")],
        itertools.product(["uint8", "int8", "float32"], repeat=2),
    ),
)
def test_int8_ends(tflite_of, entry, exit_):
    path, report = tflite_of("int8", input_dtype=entry, output_dtype=exit_)
    runner = export.load(path)
    assert (runner.input_dtype, runner.output_dtype) == (entry, exit_)
    assert report.input == f"{entry} (1, 32, 32, 3)"
    assert export.check(path, "npu").passed


@pytest.mark.parametrize(
    ("scheme", "entry"),
    slow_but(
        [("float32", "float32"), ("dynamic_int8", "uint8")],
        itertools.product(["float32", "float16", "dynamic_int8"], ["uint8", "float32"]),
    ),
)
def test_float_ends(tflite_of, scheme, entry):
    path, _ = tflite_of(scheme, input_dtype=entry)
    assert export.load(path).input_dtype == entry
    assert export.load(path).output_dtype == "float32"


def test_uint8_input_of_int8_is_exact(tflite_of):
    path, _ = tflite_of("int8")
    assert export.load(path)._input["quantization"] == (1.0, 0)


@pytest.mark.parametrize("scheme", slow_but(("int8",), ("float32", "int8")))
def test_batch_is_fixed(model, pixels, scheme, tmp_path):
    path = tmp_path / "m.tflite"
    export.to_tflite(model, path, scheme=scheme, batch=4, calibration=pixels)
    runner = export.load(path)
    assert runner.input_shape == (4, 32, 32, 3)
    # 10 images are 2 full batches and a filled-up one.
    assert runner(pixels[:10]).shape == (10, 10)
    assert export.verify(model, path, pixels[:10]).passed
    dynamic = {"SHAPE", "PACK", "GATHER", "REDUCE_PROD", "BROADCAST_TO"}
    assert not dynamic & {op.name for op in read_operators(path)}


@pytest.mark.parametrize(
    "policy",
    ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)],
)
def test_mixed_precision_model_is_rebuilt_in_float32(policy, pixels, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        mixed = exported(num_layers=1)
    finally:
        keras.config.set_dtype_policy(before)
    assert mixed.get_layer("encoderblock_0").compute_dtype != "float32"
    for i, scheme in enumerate(("float32", "int8")):
        path = tmp_path / f"{i}.tflite"
        export.to_tflite(mixed, path, scheme=scheme, calibration=pixels)
        assert export.verify(mixed, path, pixels).passed
    export.to_saved_model(mixed, tmp_path / "1", signatures=["serving_default"])
    # The same weights in a model that never saw half precision.
    exact = exported(num_layers=1)
    exact.set_weights(mixed.get_weights())
    assert export.verify(exact, tmp_path / "0.tflite", pixels).sqnr_db > 100


@pytest.mark.slow  # of int8, `test_source_model.py` shows it
def test_model_is_not_changed(pixels, tmp_path):
    model = exported()
    before = model.get_weights()
    export.to_tflite(model, tmp_path / "m.tflite")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_nested_model(pixels, tmp_path):
    body = exported(include_top=False, num_layers=1)
    nested = keras.Sequential([body, keras.layers.Dense(4, name="top")])
    report = export.to_tflite(nested, tmp_path / "nested.tflite", calibration=pixels)
    assert report.preprocessing is not None
    assert report.parity.sqnr_db > 100


@pytest.mark.parametrize("scheme", FOREIGN_FIRST)
def test_foreign_model_takes_what_it_takes(scheme, tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    foreign = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    images = np.random.default_rng(0).normal(0, 1, (16, 8, 8, 3)).astype("float32")
    path = tmp_path / "m.tflite"
    report = export.to_tflite(foreign, path, scheme=scheme, calibration=images)
    assert report.preprocessing is None
    assert "no preprocessing" in report.notes[0]
    assert export.load(path).input_dtype == "float32"
    assert export.verify(foreign, path, images).passed
    with pytest.raises(ValueError, match="must be an array for a model that carries"):
        export.to_tflite(foreign, path, scheme=scheme, calibration=tmp_path)


def test_given_preprocessing_goes_inside(pixels, tmp_path):
    body = exported(num_layers=1)
    cut = keras.Model(body.input, body.get_layer("pooling").output)
    rules = body.config.preprocessing
    path = tmp_path / "m.tflite"
    export.to_tflite(cut, path, preprocessing=rules)
    expected = run(cut, normalize(pixels[:4], rules))
    limit = 1e-5 * np.abs(expected).max()  # as in test_float_file_is_equal
    np.testing.assert_allclose(export.load(path)(pixels[:4]), expected, atol=limit)


def test_json_beside_the_file(model, pixels, tmp_path):
    path = tmp_path / "m.tflite"
    labels = [f"class {i}" for i in range(10)]
    report = export.to_tflite(
        model, path, scheme="int8", calibration=pixels, labels=labels
    )
    data = json.loads((tmp_path / "m.tflite.json").read_text())
    assert data["scheme"] == "int8"
    assert data["size_bytes"] == path.stat().st_size == report.size_bytes
    assert data["labels"] == labels
    assert data["calibration"]["images"] == 48
    assert len(data["calibration"]["sha256"]) == 64
    assert data["parity"]["sqnr_db"] == report.parity.sqnr_db
    assert data["preprocessing"]["mean"] == [0.5, 0.5, 0.5]
    assert data["versions"]["tensorflow"]
    assert data["operators"]["FULLY_CONNECTED"] == 13
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.tflite", "m.tflite.json"]


def test_calibration_from_folder_npy_and_array_agree(pixels, tmp_path):
    from PIL import Image

    model = exported(num_layers=1)
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for i, image in enumerate(pixels[:6]):
        Image.fromarray(image).save(tmp_path / "images" / "deep" / f"{i}.png")
    np.save(tmp_path / "images.npy", pixels[:6])
    sources = [pixels[:6], tmp_path / "images.npy", tmp_path / "images"]
    contents = []
    for i, source in enumerate(sources):
        path = tmp_path / f"{i}.tflite"
        export.to_tflite(model, path, scheme="int8", calibration=source)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert len(contents[0]) == len(contents[2])


def test_predict_counts_and_batches(model, pixels):
    whole = predict(model, pixels)
    np.testing.assert_allclose(
        # Another batch size sums in another order: float32 noise.
        predict(model, pixels, batch_size=5),
        whole,
        atol=1e-5,
    )
    assert whole.shape == (48, 10)


def test_weights_are_inside_the_flatbuffer(tmp_path):
    # The quantiser puts those of larger models behind it, where few readers look.
    from ai_edge_litert import schema_py_generated as schema

    model = exported(hidden_size=384, mlp_dim=1536, num_layers=1, num_heads=3)
    for scheme in ("dynamic_int8", "int8"):
        path = tmp_path / "m.tflite"
        export.to_tflite(model, path, scheme=scheme, calibration=noise(model, 8))
        content = path.read_bytes()
        buffers = schema.ModelT.InitFromPackedBuf(content, 0).buffers
        assert not any(buffer.offset for buffer in buffers)
        stored = sum(len(b.data) for b in buffers if b.data is not None)
        assert stored > model.count_params()  # a byte a weight, and the rest


@pytest.mark.slow
def test_int4_of_a_trained_model(tmp_path):
    model = vit_keras.from_checkpoint(TRAINED)
    images, path = noise(model, 32), tmp_path / "m.tflite"
    export.to_tflite(model, path, scheme="dynamic_int4", calibration=images)
    eight = tmp_path / "8.tflite"
    export.to_tflite(model, eight, scheme="dynamic_int8", calibration=images)
    assert path.stat().st_size < 0.75 * eight.stat().st_size
    four, more = (export.verify(model, p, images).sqnr_db for p in (path, eight))
    assert 15 < four < more


def test_int4_that_loses_the_signal_is_refused(pixels, tmp_path):
    model, path = exported(), tmp_path / "m.tflite"
    for block in model.layers:  # one weight of each block of 32 takes the whole range
        if block.name.startswith("encoderblock"):
            kernel = block.mlp.dense2.kernel
            value = kernel.numpy()
            value[::32] *= 100
            kernel.assign(value)
    with pytest.raises(export.ParityError, match="15 dB"):
        export.to_tflite(model, path, scheme="dynamic_int4", calibration=pixels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("scheme", "wide", "narrow"),
    [
        ("int8_residual16", {"ADD", "RSQRT"}, {"EXP", "BATCH_MATMUL"}),
        ("int8_attention16", {"ADD", "RSQRT", "SOFTMAX", "BATCH_MATMUL"}, set()),
    ],
)
def test_parts_in_int16(scheme, wide, narrow, tflite_of):
    path, _ = tflite_of(scheme)
    found = collections.defaultdict(set)
    for op in read_operators(path):
        kinds = {k for k in (*op.inputs, *op.outputs) if k != "INT32"}
        found[op.name] |= kinds
        assert not any(kind.startswith("FLOAT") for kind in kinds)
    assert all("INT16" in found[name] for name in wide)
    assert all(found[name] == {"INT8"} for name in (*narrow, "GELU"))
    assert all(found[name] == {"INT16"} for name in wide - {"RSQRT"})


def test_split_softmax_of_int8(tflite_of):
    """What stands in for EXP and the maximum is gone again."""
    path, _ = tflite_of("int8")
    names = {op.name for op in read_operators(path)}
    assert {"EXP", "REDUCE_MAX"} <= names
    assert not names & {"SOFTMAX", "HARD_SWISH", "REDUCE_MIN"}


def test_int4_needs_whole_blocks(tmp_path):
    model = exported(hidden_size=48, num_heads=2)
    with pytest.raises(ValueError, match="multiple of the block"):
        export.to_tflite(model, tmp_path / "m.tflite", scheme="dynamic_int4")
    assert list(tmp_path.iterdir()) == []
