"""What loading promises: the right values, one report, and no half-changed model."""

import contextlib
import json
import pathlib
import re

import keras
import numpy as np
import pytest
import safetensors.numpy as safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.models import images_for, randomise, run, tiny
from vit_keras import (
    PRESETS,
    CheckpointError,
    Preprocessing,
    ViTConfig,
    create_model,
    from_checkpoint,
    load_weights,
)
from vit_keras.weights.describe import describe
from vit_keras.weights.formats import open_checkpoint
from vit_keras.weights.loader import find
from vit_keras.weights.recognise import recognise
from vit_keras.weights.resize import METHODS, resize_positions

GOLDEN = pathlib.Path(__file__).parents[2] / "golden"
CASES = {case["case"]: case for case in json.loads((GOLDEN / "cases.json").read_text())}
SIZES = ("image_size", "patch_size", "num_layers", "hidden_size", "num_heads")
SIZES += ("mlp_dim", "classes")

# float32 over two blocks and a head, as tests/vit_keras/weights/test_golden.py has it
TOLERANCE = 2e-5


def file_of(name):
    return GOLDEN / name / CASES[name]["file"]


def arrays_of(name):
    """The arrays of a golden file, to write a variant of it."""
    return {n: e.read() for n, e in open_checkpoint(file_of(name)).entries.items()}


def config_of(name):
    return describe(recognise(find(file_of(name))), **CASES[name]["needs"])


def sizes_of(name):
    config = config_of(name)
    return {field: getattr(config, field) for field in SIZES}


def blank(name, **changes):
    """A model of a golden file's configuration with other weights."""
    return randomise(create_model(config_of(name).replace(**changes)), seed=7)


def golden(name):
    """Images, and what the package computed for them."""
    with np.load(GOLDEN / name / "expected.npz") as expected:
        shape, outputs = tuple(expected["images_shape"]), expected["outputs"]
    images = np.random.default_rng(0).standard_normal(shape).astype("float32")
    return images, outputs


def values(model):
    return {w.path: keras.ops.convert_to_numpy(w.value).copy() for w in model.weights}


def equal(a, b):
    assert a.keys() == b.keys()
    for path, value in a.items():
        np.testing.assert_array_equal(value, b[path], err_msg=path)


@contextlib.contextmanager
def refused(model, words, *, error=CheckpointError):
    """The block fails with these words, and the model is as before, bit by bit."""
    before = values(model)
    with pytest.raises(error) as caught:
        yield caught
    for word in [words] if isinstance(words, str) else words:
        assert word in str(caught.value), str(caught.value)
    equal(values(model), before)


def saved(folder, arrays, name="model.safetensors"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        safetensors.save_file(arrays, path)
    return path


# Our path -> name in AugReg's files; every array there has our order of axes, so that
# `reshape` alone makes ours of theirs.
AUGREG = {
    "embedding/kernel": "embedding/kernel",
    "embedding/bias": "embedding/bias",
    "class_token/token": "cls",
    "posembed_input/embedding": "Transformer/posembed_input/pos_embedding",
    "encoder_norm/gamma": "Transformer/encoder_norm/scale",
    "encoder_norm/beta": "Transformer/encoder_norm/bias",
    "head/kernel": "head/kernel",
    "head/bias": "head/bias",
}
for _ours, _theirs in {
    "norm1/gamma": "LayerNorm_0/scale",
    "norm1/beta": "LayerNorm_0/bias",
    **{
        f"attention/{part}/{kind}": f"MultiHeadDotProductAttention_1/{part}/{kind}"
        for part in ("query", "key", "value", "out")
        for kind in ("kernel", "bias")
    },
    "norm2/gamma": "LayerNorm_2/scale",
    "norm2/beta": "LayerNorm_2/bias",
    **{
        f"mlp/dense{i + 1}/{kind}": f"MlpBlock_3/Dense_{i}/{kind}"
        for i in (0, 1)
        for kind in ("kernel", "bias")
    },
}.items():
    for _i in range(2):
        AUGREG[f"encoderblock_{_i}/{_ours}"] = (
            f"Transformer/encoderblock_{_i}/{_theirs}"
        )


# --- Recognising a layout ---------------------------------------------------------


def test_unknown_names_are_refused_with_the_closest_layout(tmp_path):
    arrays = arrays_of("timm-token")
    del arrays["patch_embed.proj.weight"], arrays["blocks.0.attn.qkv.weight"]
    path = saved(tmp_path, arrays)
    with refused(blank("timm-token"), "fits no known layout") as caught:
        load_weights(model := blank("timm-token"), path)
    message = str(caught.value)
    assert model is not None and str(path) in message
    assert "The closest is timm" in message
    assert "missing: patch_embed.proj.weight, blocks.{i}.attn.qkv.weight" in message
    assert "It holds: blocks.0.attn.proj.bias" in message


def test_names_of_another_network_are_refused(tmp_path):
    path = saved(tmp_path, {f"layer{i}.conv.weight": np.ones(3, "f4") for i in "1234"})
    with pytest.raises(CheckpointError, match="fits no known layout.*by 0 of its 4"):
        from_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        *(("timm-token", p) for p in ("backbone.", "encoder.", "visual.trunk.")),
        ("hf-vit-base", "vit."),
        ("augreg-token", "opt/target/"),
        ("bv-tok", "img/"),
    ],
)
def test_prefixes(tmp_path, name, prefix):
    plain, expected = arrays_of(name), blank(name)
    load_weights(expected, file_of(name))
    strip = "params/" if name == "bv-tok" else ""
    arrays = {prefix + n.removeprefix(strip): a for n, a in plain.items()}
    suffix = ".npz" if "/" in prefix else ".safetensors"
    model = blank(name)
    load_weights(model, saved(tmp_path, arrays, f"model{suffix}"))
    equal(values(model), values(expected))


def test_two_names_for_one_weight_are_refused(tmp_path):
    """Of a student and a teacher in one file, no mixture must be made."""
    arrays = arrays_of("timm-token")
    double = {f"backbone.{n}": a + 1 for n, a in arrays.items()}
    path = saved(tmp_path, {**arrays, **double})
    with refused(model := blank("timm-token"), "in the file, but not in the model"):
        load_weights(model, path)


@pytest.mark.parametrize(
    "name",
    ["blocks.99999999.norm1.weight", f"blocks.{'9' * 5000}.norm1.weight"]
    + ["blocks.00.norm1.weight", "blocks.٣.norm1.weight", "../../etc/passwd"]
    + ["Transformer/encoderblock_999999999/LayerNorm_0/scale"],
)
def test_hostile_names_are_only_names(tmp_path, name):
    arrays = arrays_of("timm-token")
    width = config_of("timm-token").hidden_size
    path = saved(tmp_path, {**arrays, name: np.ones(width, "f4")})
    with refused(model := blank("timm-token"), name[:60]) as caught:
        load_weights(model, path)
    assert len(str(caught.value)) < 1000
    with pytest.raises(CheckpointError, match="in the file, but not in the model"):
        from_checkpoint(path, **CASES["timm-token"]["needs"])


# --- The report -------------------------------------------------------------------


def test_every_weight_has_its_place():
    model = blank("augreg-token")
    report = load_weights(model, file_of("augreg-token"))
    arrays = arrays_of("augreg-token")
    assert sorted(report.loaded) == sorted(AUGREG) == sorted(values(model))
    for path, value in values(model).items():
        expected = arrays[AUGREG[path]].reshape(value.shape)
        np.testing.assert_array_equal(value, expected, err_msg=path)
    for field in ("resized", "fresh", "dropped", "notes", "missing", "unused"):
        assert not getattr(report, field), field
    assert str(report) == f"{file_of('augreg-token')}: 40 weights, layout augreg"


def test_all_that_is_wrong_is_in_one_report(tmp_path):
    arrays = arrays_of("timm-token")
    del arrays["blocks.1.norm2.weight"], arrays["blocks.0.attn.qkv.bias"]
    arrays |= {"extra.weight": np.ones(3, "f4")}
    arrays |= {"blocks.0.mlp.fc1.bias": np.ones(99, "f4")}
    arrays |= {"norm.bias": np.ones((2, 4), "f4")}
    path = saved(tmp_path, arrays)
    model = blank("timm-token")
    with refused(model, "nothing was changed. strict=False") as caught:
        load_weights(model, path)
    lines = str(caught.value).splitlines()
    width = model.config.hidden_size
    for line in (
        f"{path}: {len(values(model)) - 6} weights, layout timm",
        f"  missing from the file: encoderblock_1/norm2/gamma ({width},)",
        *(
            f"  missing from the file: encoderblock_0/attention/{x}/bias ({width},)"
            for x in ("query", "key", "value")
        ),
        "  in the file, but not in the model: extra.weight",
    ):
        assert line in lines
    wrong = sorted(line for line in lines if line.startswith("  of another shape: "))
    assert len(wrong) == 2
    assert "blocks.0.mlp.fc1.bias has shape (99,)" in wrong[0]
    assert "norm.bias has 2 axes, not 1" in wrong[1]


NAMES_1 = sorted(n for n in AUGREG.values() if "encoderblock_1/" in n)
VECTORS = sorted(
    n for n in AUGREG.values() if re.search(r"_\d/.*(scale|Dense_\d/bias)$", n)
)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    gone=st.sets(st.sampled_from(NAMES_1), max_size=5),
    odd=st.sets(st.sampled_from(VECTORS), max_size=4),
    more=st.sets(st.text("ab/.", min_size=1, max_size=9), max_size=3),
)
def test_any_defects_are_reported_and_the_rest_is_loaded(tmp_path, gone, odd, more):
    source = arrays_of("augreg-token")
    arrays = {n: a for n, a in source.items() if n not in gone}
    odd = odd - gone
    arrays |= {n: np.append(arrays[n], 0).astype("f4") for n in odd}
    arrays |= {f"x{n}": np.ones(2, "f4") for n in more}
    path = saved(tmp_path, arrays, "model.npz")
    ours = {theirs: path for path, theirs in AUGREG.items()}
    model = blank("augreg-token")
    before = values(model)
    if gone or odd or more:
        with refused(model, [ours[n] for n in gone | odd] + [f"x{n}" for n in more]):
            load_weights(model, path)
    report = load_weights(model, path, strict=False)
    assert {line.split(" ")[0] for line in report.missing} == {ours[n] for n in gone}
    assert len(report.misfits) == len(odd)
    assert set(report.unused) == {f"x{n}" for n in more}
    kept = {ours[n] for n in gone | odd}
    assert set(report.loaded) == before.keys() - kept
    for path, value in values(model).items():
        expected = source[AUGREG[path]].reshape(value.shape)
        expected = before[path] if path in kept else expected
        np.testing.assert_array_equal(value, expected, err_msg=path)


def test_a_deeper_and_a_shallower_model():
    with refused(model := blank("timm-token", num_layers=3), "missing") as caught:
        load_weights(model, file_of("timm-token"))
    assert str(caught.value).count("missing from the file: encoderblock_2/") == 10
    assert "missing from the file: and 6 more" in str(caught.value)
    with refused(model := blank("timm-token", num_layers=1), "not in the model") as c:
        load_weights(model, file_of("timm-token"))
    assert str(c.value).count("in the file, but not in the model: blocks.1.") == 10


def test_a_long_report_is_cut(tmp_path):
    arrays = {f"extra{i}": np.ones(1, "f4") for i in range(50)}
    path = saved(tmp_path, arrays_of("timm-token") | arrays)
    with refused(
        model := blank("timm-token"), "not in the model: and 40 more"
    ) as caught:
        load_weights(model, path)
    assert len(str(caught.value).splitlines()) == 13


def test_other_widths_are_refused():
    with refused(model := blank("timm-token", mlp_dim=20), "of another shape"):
        load_weights(model, file_of("timm-token"))
    wide = config_of("timm-token").hidden_size * 2
    with refused(model := blank("timm-token", hidden_size=wide), "of another shape"):
        load_weights(model, file_of("timm-token"))


@pytest.mark.parametrize("name", ["augreg-token", "bv-gap", "kh-token"])
def test_other_heads_are_refused_where_the_shapes_tell_them(name):
    """The same numbers in other heads compute something else."""
    heads = config_of(name).num_heads * 2
    words = f"num_heads: {heads // 2} in the file, {heads} in the model"
    with refused(model := blank(name, num_heads=heads), words):
        load_weights(model, file_of(name))
    with pytest.raises(CheckpointError, match=words):
        from_checkpoint(file_of(name), num_heads=heads)


def test_other_heads_are_noted_where_the_settings_tell_them():
    heads = config_of("hf-vit").num_heads * 2
    words = f"implies num_heads={heads // 2}, the model has {heads}"
    with pytest.warns(UserWarning, match=words):
        load_weights(blank("hf-vit", num_heads=heads), file_of("hf-vit"))


def test_a_flattened_patch_of_another_size_is_refused():
    """Its number of values tells nothing of rows and columns: no resizing."""
    p, _ = config_of("vp-cls").patch_size
    model = blank("vp-cls", patch_size=p // 2)
    with refused(model, f"not {p // 2} x {p // 2} x 3, for embedding/kernel"):
        load_weights(model, file_of("vp-cls"))


def test_only_our_models():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="must come from vit_keras.create_model"):
        load_weights(model, file_of("timm-token"))


# --- The head ---------------------------------------------------------------------


def head_of(found):
    return {p: v for p, v in found.items() if p.startswith(("head", "pre_logits"))}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("timm-token", {"classes": 7}),
        ("timm-distilled", {"classes": 7}),
        ("augreg-2020", {"classes": 7}),  # pre_logits belongs to the head
        ("augreg-2020", {"representation_size": None}),
        ("augreg-2020", {"representation_size": 3}),
        ("augreg-token", {"representation_size": 3}),
    ],
)
def test_a_head_that_does_not_fit_stays_fresh(name, changes):
    model = blank(name, **changes)
    before = values(model)
    with pytest.warns(UserWarning, match="left fresh: ") as caught:
        report = load_weights(model, file_of(name))
    equal(head_of(values(model)), head_of(before))
    assert set(report.fresh) == set(head_of(before))
    for path in head_of(before):
        assert path in str(caught[0].message)
    assert report.loaded and not (report.missing or report.unused or report.misfits)
    other = blank(name)
    load_weights(other, file_of(name))
    expected = values(other)
    for path in report.loaded:
        np.testing.assert_array_equal(values(model)[path], expected[path])


def test_a_head_on_pre_logits_is_kept_with_it():
    model = blank("augreg-2020")
    assert not load_weights(model, file_of("augreg-2020")).fresh
    assert "pre_logits/kernel" in values(model)


def test_a_model_without_head_needs_none():
    model = blank("timm-token", include_top=False)
    report = load_weights(model, file_of("timm-token"))  # no warning
    assert report.dropped == ["head.weight", "head.bias"] and not report.fresh


def test_a_file_without_head_leaves_it_fresh():
    changes = {"include_top": True, "classes": 3, "representation_size": None}
    with pytest.warns(UserWarning, match="left fresh: head/kernel, head/bias"):
        report = load_weights(blank("hf-vit-base", **changes), file_of("hf-vit-base"))
    assert "pooler.dense.weight" in report.dropped


def test_head_can_be_left_out():
    model = blank("timm-token")
    before = values(model)
    report = load_weights(model, file_of("timm-token"), head=False)  # no warning
    equal(head_of(values(model)), head_of(before))
    assert report.fresh == ["head/kernel", "head/bias"]
    assert (values(model)["encoder_norm/gamma"] != before["encoder_norm/gamma"]).all()


@pytest.mark.parametrize("name", ["timm-map", "timm-gap", "bv-map"])
def test_tokens_need_no_pooling(name):
    """A model of tokens ends before pooling; what the file has of it is not needed."""
    needs = CASES[name]["needs"]
    whole = from_checkpoint(file_of(name), **needs)
    model = from_checkpoint(file_of(name), task="features", **needs)
    images = images_for(model.config)
    last = "pooling" if whole.config.pooling == "gap" else "encoder_norm"
    layer = whole.get_layer(last)
    tokens = layer.input if last == "pooling" else layer.output
    expected = run(keras.Model(whole.inputs[0], tokens), images)
    np.testing.assert_allclose(run(model, images), expected, rtol=0, atol=TOLERANCE)


# --- What shows in no shape -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("augreg-token", {"mlp_activation": "gelu"}, "mlp_activation='gelu_tanh'"),
        ("timm-token", {"mlp_activation": "gelu_tanh"}, "mlp_activation='gelu'"),
        ("hf-vit", {"norm_epsilon": 1e-6}, "norm_epsilon=1e-12"),
        ("timm-token", {"pooling": "gap", "class_token": True}, "pooling='token'"),
        ("timm-rect", {"mlp_activation": "gelu_tanh"}, "mlp_activation='gelu'"),
    ],
)
def test_silent_differences_are_noted(name, changes, words):
    field = next(iter(changes))
    with pytest.warns(UserWarning, match="the checkpoint implies") as caught:
        report = load_weights(blank(name, **changes), file_of(name))
    assert len(caught) == len(report.notes) == 1
    note = f"the checkpoint implies {words}, the model has {changes[field]!r}"
    assert report.notes == [note] and note in str(caught[0].message)


def test_pooling_matters_to_a_head_only():
    changes = {"pooling": "gap", "class_token": True, "include_top": False}
    assert not load_weights(blank("timm-token", **changes), file_of("timm-token")).notes


def test_an_activation_that_no_model_of_ours_has_is_refused(tmp_path):
    path = hf_folder(tmp_path, config={"hidden_act": "relu"})
    with refused(model := blank("hf-vit"), ["'relu'", str(path)]):
        load_weights(model, path)


# --- A preset takes from its checkpoint what shapes do not say ----------------------


@pytest.mark.parametrize("name", CASES)
def test_a_preset_becomes_what_its_checkpoint_was(name):
    case, (images, outputs) = CASES[name], golden(name)
    config = config_of(name)
    given = {**sizes_of(name), "include_top": config.include_top, **case["needs"]}
    if outputs.ndim == 3:
        given["task"] = "features"
    given["channels"] = config.channels
    model = create_model("vit_ti16", weights=file_of(name), **given)
    assert model.name == "vit_ti16"
    assert model.config.preprocessing == config.preprocessing
    np.testing.assert_allclose(run(model, images), outputs, rtol=0, atol=TOLERANCE)


def test_an_override_goes_before_the_checkpoint():
    name, prep = "augreg-token", Preprocessing(crop=0.5)
    model = create_model(
        "vit_ti16",
        weights=file_of(name),
        **sizes_of(name),
        mlp_activation="gelu",
        norm_epsilon=1e-3,
        preprocessing=prep,
        drop_path_rate=0.1,
    )  # and no warning: the difference is meant
    assert model.config.mlp_activation == "gelu"
    assert model.config.norm_epsilon == 1e-3
    assert model.config.preprocessing == prep
    assert model.config.drop_path_rate == 0.1
    equal(values(model), values(from_checkpoint(file_of(name))))


def test_a_config_stays_as_it_is():
    config = config_of("augreg-token").replace(mlp_activation="gelu")
    with pytest.warns(UserWarning, match="implies mlp_activation='gelu_tanh'"):
        model = create_model(config, weights=file_of("augreg-token"))
    assert model.config == config


@pytest.mark.parametrize("field", ["num_layers", "mlp_dim", "hidden_size"])
def test_sizes_must_be_those_of_the_preset(field):
    name = "timm-token"
    ours, given = getattr(PRESETS["vit_ti16"].config, field), sizes_of(name)
    theirs = given.pop(field)
    with pytest.raises(CheckpointError, match=f"{field}={theirs}, not {ours}") as c:
        create_model("vit_ti16", weights=file_of(name), **given)
    assert "must have the sizes of the preset" in str(c.value)
    assert str(file_of(name)) in str(c.value)
    given[field] = theirs * 2
    with pytest.raises(CheckpointError, match="does not fit the model"):
        create_model("vit_ti16", weights=file_of(name), **given)


@pytest.mark.parametrize("name", ["timm-token", "augreg-2020", "hf-deit"])
def test_other_classes_get_a_fresh_head(name):
    given = {**sizes_of(name), "classes": 7}
    with pytest.warns(UserWarning, match="left fresh: head/kernel, head/bias"):
        model = create_model("vit_ti16", weights=file_of(name), **given)
    assert model.output_shape == (None, 7)
    assert model.config.representation_size is None
    expected = values(from_checkpoint(file_of(name), **CASES[name]["needs"]))
    found = values(model)
    for path in found.keys() - head_of(found).keys():
        np.testing.assert_array_equal(found[path], expected[path])
    with pytest.warns(UserWarning, match="left fresh"):
        other = from_checkpoint(file_of(name), classes=7, **CASES[name]["needs"])
    assert other.output_shape == (None, 7)


def test_errors_before_a_model_is_built(tmp_path):
    with pytest.raises(FileNotFoundError, match="published name, such as vit_b16_384"):
        create_model("vit_b16", weights="vit_b16_38")
    with pytest.raises(FileNotFoundError, match="must be an existing file"):
        create_model("vit_b16", weights=tmp_path / "no.npz")
    with pytest.raises(FileNotFoundError, match="must be an existing file"):
        from_checkpoint(tmp_path / "no.keras")


# --- from_checkpoint --------------------------------------------------------------


def test_overrides_of_from_checkpoint():
    name = "timm-token"
    model = from_checkpoint(
        file_of(name), name="mine", num_heads=2, activation="softmax", dropout=0.1
    )
    assert model.name == "mine" and model.config.dropout == 0.1
    images, outputs = golden(name)
    found = run(model, images)
    expected = np.exp(outputs) / np.exp(outputs).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    with pytest.raises(ValueError, match="`image_sise` is not an argument"):
        from_checkpoint(file_of(name), num_heads=2, image_sise=8)


@pytest.mark.parametrize("given", [{"patch_size": 0}, {"image_size": (8, 8, 8)}])
def test_impossible_overrides(given):
    with pytest.raises(ValueError, match=f"`{next(iter(given))}` must be a positive"):
        from_checkpoint(file_of("timm-token"), num_heads=2, **given)


def test_what_a_file_does_not_tell_is_asked_for(tmp_path):
    with pytest.raises(CheckpointError, match="give `num_heads`"):
        from_checkpoint(file_of("timm-token"))
    arrays = arrays_of("timm-token")
    arrays["pos_embed"] = np.concatenate([arrays["pos_embed"]] * 2, axis=1)[:, :19]
    path = saved(tmp_path, arrays)
    with pytest.raises(CheckpointError, match="19 positions.*give its `image_size`"):
        from_checkpoint(path, num_heads=2)
    p, _ = config_of("timm-token").patch_size
    size = (3 * p, 6 * p)
    model = from_checkpoint(path, num_heads=2, image_size=size)
    assert model.config.grid == (3, 6) and model.config.position_prefix


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("mlp", "blocks.{i}.mlp.fc1.weight is missing"),
        ("norm1", "missing from the file: encoderblock_0/norm1/gamma"),
        ("cls_token", None),
    ],
)
def test_an_incomplete_file(tmp_path, gone, words):
    arrays = {n: a for n, a in arrays_of("timm-token").items() if gone not in n}
    path = saved(tmp_path, arrays)
    if words is None:  # then the positions are one too many for a square
        words = "no square of patches"
    with pytest.raises(CheckpointError, match=re.escape(words)):
        from_checkpoint(path, num_heads=2)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("patch_embed.proj.weight", (8, 3, 4)),
        ("patch_embed.proj.weight", (9, 3, 4, 4)),
        ("pos_embed", (8,)),
        ("pos_embed", (1, 17, 5)),
        ("cls_token", (8,)),
        ("cls_token", (1, 1, 5)),
        ("cls_token", (4, 4)),
        ("blocks.0.attn.qkv.weight", (24,)),
        ("blocks.0.attn.qkv.weight", (23, 8)),
        ("blocks.0.mlp.fc1.weight", (2, 2, 2)),
        ("blocks.0.norm1.weight", ()),
    ],
)
def test_odd_shapes_are_refused_and_leave_no_trace(tmp_path, name, shape):
    arrays = arrays_of("timm-token")
    assert arrays[name].shape != shape
    path = saved(tmp_path, arrays | {name: np.ones(shape, "f4")})
    with pytest.raises(CheckpointError, match=r"does not tell|not fit|no square|axes"):
        from_checkpoint(path, num_heads=2)
    model = blank("timm-token")
    with refused(model, str(path)):
        load_weights(model, path)
    before = values(model)
    try:  # what fits, or nothing at all
        report = load_weights(model, path, strict=False)
    except CheckpointError:
        equal(values(model), before)
    except UserWarning:  # raised by the filter of the tests, when all is loaded
        pytest.fail("a note beside a reported shape")
    else:
        assert report.misfits and len(report.loaded) < len(before)


# --- Tokens and positions ---------------------------------------------------------

WITH_TOKENS = ["timm-token", "timm-distilled", "timm-registers", "timm-dinov2"]
WITH_TOKENS += ["augreg-token", "bv-tok", "hf-deit", "hf-dinov2-registers", "kh-token"]


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("name", WITH_TOKENS)
def test_positions_of_the_prefix_may_be_part_of_the_tokens(name, prefix):
    images, outputs = golden(name)
    task = "features" if outputs.ndim == 3 else "classify"
    model = from_checkpoint(
        file_of(name), task=task, **CASES[name]["needs"], position_prefix=prefix
    )
    assert model.config.position_prefix == prefix
    np.testing.assert_allclose(run(model, images), outputs, rtol=0, atol=TOLERANCE)


def test_tokens_and_positions_by_hand():
    arrays = arrays_of("augreg-token")
    place = arrays[AUGREG["posembed_input/embedding"]]
    model = blank("augreg-token", position_prefix=False)
    load_weights(model, file_of("augreg-token"))
    found = values(model)
    np.testing.assert_array_equal(
        found["class_token/token"], arrays["cls"] + place[:, :1]
    )
    np.testing.assert_array_equal(found["posembed_input/embedding"], place[:, 1:])
    model = blank("bv-tok", position_prefix=True)
    load_weights(model, file_of("bv-tok"))
    found, arrays = values(model), arrays_of("bv-tok")
    expected = arrays["params/pos_embedding"]
    np.testing.assert_array_equal(
        found["posembed_input/embedding"],
        np.concatenate([np.zeros_like(expected[:, :1]), expected], axis=1),
    )


def test_a_distillation_token_without_a_head_is_a_register(tmp_path):
    """transformers' DeiTForImageClassification reads the class token only."""
    arrays = {
        n.replace("cls_classifier", "classifier"): a
        for n, a in arrays_of("hf-deit").items()
        if not n.startswith("distillation_classifier")
    }
    path = saved(tmp_path, arrays)
    for file in GOLDEN.joinpath("hf-deit").glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    model = from_checkpoint(path)
    config = model.config
    assert not config.distillation_token and config.num_register_tokens == 1
    assert config.pooling == "token" and config.classes == 5
    both = from_checkpoint(file_of("hf-deit"))
    one = keras.Model(both.inputs[0], both.get_layer("head").output)
    images = images_for(config)
    np.testing.assert_allclose(
        run(model, images), run(one, images), rtol=0, atol=TOLERANCE
    )
    other = from_checkpoint(path, position_prefix=False)
    np.testing.assert_allclose(
        run(other, images), run(one, images), rtol=0, atol=TOLERANCE
    )


# The method that each layout's authors use.
RESIZED = {
    "augreg-token": "zoom",
    "bv-gap": "zoom",
    "bv-tok": "zoom",
    "hf-vit": "bicubic",
    "hf-rect": "bicubic",
    "hf-dinov2": "bicubic",
    "hf-dinov2-registers": "bicubic_antialias",
    "kh-token": "bilinear",
    "timm-token": "bicubic_antialias",
    "timm-registers": "bicubic_antialias",
    "timm-distilled": "bicubic_antialias",
    "vk-h5": "zoom",
    "vp-cls": "bicubic_antialias",
}


GRIDS = [(6, 6), (3, 6), (2, 3)]


@pytest.mark.parametrize(
    ("name", "grid"),
    [(n, GRIDS[(i + k) % 3]) for i, n in enumerate(RESIZED) for k in (0, 1)],
)
def test_positions_are_resized_and_the_prefix_is_not(name, grid):
    (p, q), old = config_of(name).patch_size, config_of(name)
    size, needs = (grid[0] * p, grid[1] * q), CASES[name]["needs"]
    original = from_checkpoint(file_of(name), **needs)
    model = from_checkpoint(file_of(name), **{**needs, "image_size": size})
    assert model.config.image_size == size
    before, after = values(original), values(model)
    path = "posembed_input/embedding"
    prefix = before[path].shape[1] - old.grid[0] * old.grid[1]
    table = before[path][0, prefix:].reshape(*old.grid, -1)
    expected = resize_positions(table, grid, RESIZED[name]).reshape(-1, table.shape[-1])
    np.testing.assert_array_equal(after[path][:, :prefix], before[path][:, :prefix])
    np.testing.assert_allclose(after[path][0, prefix:], expected, rtol=0, atol=1e-6)
    equal(
        {k: v for k, v in after.items() if k != path},
        {k: v for k, v in before.items() if k != path},
    )
    other = blank(name, image_size=size)
    report = load_weights(other, file_of(name))
    equal(values(other), after)
    assert report.resized == [f"positions from {old.grid} to {grid}, {RESIZED[name]}"]


def test_a_preset_at_another_image_size():
    name = "augreg-token"
    p, _ = config_of(name).patch_size
    given = {**sizes_of(name), "image_size": 6 * p}
    model = create_model("vit_ti16", weights=file_of(name), **given)
    equal(values(model), values(from_checkpoint(file_of(name), image_size=6 * p)))


def test_a_rectangle_of_the_settings_is_resized():
    """Where the file's own grid is no square, its settings tell it."""
    config = config_of("hf-rect")
    assert config.grid[0] != config.grid[1]
    p, q = config.patch_size
    model = from_checkpoint(file_of("hf-rect"), image_size=(3 * p, 3 * q))
    assert model.config.grid == (3, 3)


def test_no_square_into_another_rectangle_is_refused(tmp_path):
    arrays = arrays_of("bv-gap")
    arrays["params/pos_embedding"] = np.ones((1, 15, 8), "f4")
    path = saved(tmp_path, arrays, "model.npz")
    with refused(model := blank("bv-gap"), "15 positions"):
        load_weights(model, path)
    p, q = model.config.patch_size
    good = blank("bv-gap", image_size=(3 * p, 5 * q))
    assert not load_weights(good, path).resized


@pytest.mark.parametrize("name", ["augreg-token", "timm-token", "hf-vit"])
def test_grown_patches_give_the_same_outputs(name):
    """FlexiViT, arXiv 2212.08013: on patches that are resized alike."""
    images, outputs = golden(name)
    p, q = config_of(name).patch_size
    method = {"zoom": "bilinear"}.get(RESIZED[name], RESIZED[name])
    rows, columns = METHODS[method](p, 2 * p), METHODS[method](q, 2 * q)
    n, height, width, c = images.shape
    cut = images.reshape(n, height // p, p, width // q, q, c)
    grown = np.einsum("Pp,Qq,nhpwqc->nhPwQc", rows, columns, cut)
    grown = grown.reshape(n, 2 * height, 2 * width, c).astype("float32")
    needs = CASES[name]["needs"]
    words = re.escape(f"patches from {(p, q)} to {(2 * p, 2 * q)} pixels")
    with pytest.warns(UserWarning, match=words):
        model = from_checkpoint(
            file_of(name), **needs, patch_size=2 * p, image_size=(2 * height, 2 * width)
        )
    np.testing.assert_allclose(run(model, grown), outputs, rtol=0, atol=TOLERANCE)
    with pytest.warns(UserWarning, match=words):
        load_weights(
            blank(name, patch_size=2 * p, image_size=2 * height), file_of(name)
        )


# --- Nothing half-done ------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    arrays = arrays_of("augreg-token")
    arrays["head/bias"] = arrays["head/bias"].astype("float64")
    arrays["head/bias"][2] = value  # the last one that is assigned
    path = saved(tmp_path, arrays, "model.npz")
    with refused(model := blank("augreg-token"), "head/bias holds values that are not"):
        load_weights(model, path)
    with refused(model, str(path)):
        load_weights(model, path, strict=False)


def test_what_is_not_used_may_be_anything(tmp_path):
    arrays = arrays_of("augreg-token")
    arrays["head/bias"] = np.full_like(arrays["head/bias"], np.nan)
    path = saved(tmp_path, arrays, "model.npz")
    with pytest.warns(UserWarning, match="left fresh"):
        load_weights(blank("augreg-token", classes=7), path)


@pytest.mark.parametrize("changes", [{}, {"positions": "sincos2d"}])
def test_positions_that_can_not_be_placed_change_nothing(tmp_path, changes):
    """They are needed for the tokens, also where the model keeps none."""
    arrays = arrays_of("timm-token")
    arrays["pos_embed"] = np.ones((1, 19, 8), "f4")
    path = saved(tmp_path, arrays)
    for strict in (True, False):
        with refused(model := blank("timm-token", **changes), str(path)):
            load_weights(model, path, strict=strict)


def test_nan_positions_change_nothing(tmp_path):
    arrays = arrays_of("timm-token")
    arrays["pos_embed"] = np.full_like(arrays["pos_embed"], np.nan)
    path, changes = saved(tmp_path, arrays), {"positions": "sincos2d"}
    with refused(model := blank("timm-token", **changes), "not finite"):
        load_weights(model, path, strict=False)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool"])
def test_quantised_weights_are_refused(tmp_path, dtype):
    arrays = arrays_of("timm-token")
    name = "blocks.1.mlp.fc2.weight"
    path = saved(tmp_path, arrays | {name: arrays[name].astype(dtype)})
    with refused(model := blank("timm-token"), f"{name} has dtype {dtype}") as caught:
        load_weights(model, path)
    assert "quantised" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["<U3", "complex64", "datetime64[s]"])
def test_no_numbers_at_all(tmp_path, dtype):
    arrays = arrays_of("augreg-token")
    name = AUGREG["encoderblock_1/norm2/beta"]
    path = saved(tmp_path, arrays | {name: np.ones(8).astype(dtype)}, "model.npz")
    with refused(model := blank("augreg-token"), f"{name} has dtype"):
        load_weights(model, path)


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_other_floats_are_taken(tmp_path, dtype):
    arrays = arrays_of("augreg-token")
    path = saved(tmp_path, {n: a.astype(dtype) for n, a in arrays.items()}, "model.npz")
    load_weights(model := blank("augreg-token"), path)
    for name, value in values(model).items():
        expected = arrays[AUGREG[name]].reshape(value.shape)
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=0, err_msg=name)


# --- Our own files ----------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A model with every kind of token, and its two files."""
    folder = tmp_path_factory.mktemp("own")
    config = tiny(
        image_size=(16, 24),
        num_register_tokens=2,
        layer_scale_init_value=0.1,
        mlp_activation="gelu_tanh",
        preprocessing=Preprocessing(crop=0.75),
        dropout=0.1,
    )
    model = randomise_weights(create_model(config, name="mine"))
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    return model, folder


def randomise_weights(model):
    """`randomise`, but not of the random state of dropout."""
    state = {w.path: w.value for w in model.weights if "seed" in w.path}
    randomise(model, seed=3)
    for weight in model.weights:
        if weight.path in state:
            weight.assign(state[weight.path])
    return model


def trained(model):
    return {p: v for p, v in values(model).items() if "seed_generator" not in p}


def test_a_keras_file_is_a_checkpoint(own):
    source, folder = own
    model = from_checkpoint(folder / "model.keras")
    assert model.config == source.config
    equal(trained(model), trained(source))
    model = randomise_weights(create_model(source.config))
    model.get_layer("head").kernel.assign(model.get_layer("head").kernel + 1.0)
    report = load_weights(model, folder / "model.keras")
    assert report.layout == "vit_keras" and len(report.loaded) == len(trained(source))
    equal(trained(model), trained(source))


def test_a_keras_file_at_another_size_and_for_other_classes(own):
    source, folder = own
    with pytest.warns(UserWarning, match="left fresh: head/kernel, head/bias"):
        model = from_checkpoint(folder / "model.keras", image_size=(32, 16), classes=9)
    assert model.config == source.config.replace(image_size=(32, 16), classes=9)
    before, after = trained(source), trained(model)
    path = "posembed_input/embedding"
    table = before[path][0, 3:].reshape(2, 3, -1)
    expected = resize_positions(table, (4, 2), "bicubic_antialias").reshape(8, -1)
    np.testing.assert_allclose(after[path][0, 3:], expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(after[path][0, :3], before[path][0, :3])
    for name in before.keys() - {path, "head/kernel", "head/bias"}:
        np.testing.assert_array_equal(after[name], before[name])


def test_a_keras_file_into_a_preset(own):
    source, folder = own
    fields = {f: getattr(source.config, f) for f in SIZES}
    model = create_model("vit_ti16", weights=folder / "model.keras", **fields)
    assert model.config.num_register_tokens == 2
    assert model.config.preprocessing == source.config.preprocessing
    images = images_for(source.config)
    np.testing.assert_allclose(
        run(model, images), run(source, images), rtol=0, atol=TOLERANCE
    )


def test_a_keras_file_of_another_model_is_refused(tmp_path):
    path = tmp_path / "other.keras"
    inputs = keras.Input((3,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(path)
    with pytest.raises(CheckpointError, match="must hold a model of this package"):
        from_checkpoint(path)
    other = keras.layers.Lambda(lambda x: x * 2)(inputs)
    keras.Model(inputs, other).save(path)
    with refused(model := create_model(tiny()), [str(path), "cannot be opened"]) as c:
        load_weights(model, path)
    assert "\n" not in str(c.value)


def test_own_weights_for_the_same_architecture(own):
    source, folder = own
    path = folder / "model.weights.h5"
    report = load_weights(model := create_model(source.config), path)
    assert report.layout == "vit_keras" and len(report.loaded) == len(model.weights)
    equal(trained(model), trained(source))
    model = create_model(source.config, weights=path)
    equal(trained(model), trained(source))


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 32},
        {"classes": 7},
        {"num_layers": 1},
        {"num_layers": 3},
        {"num_register_tokens": 0},
        {"image_size": 16},
    ],
)
def test_own_weights_for_another_architecture_are_refused(own, changes):
    source, folder = own
    path = folder / "model.weights.h5"
    model = create_model(source.config.replace(**changes))
    with refused(model, ["of this architecture", str(path)]) as caught:
        load_weights(model, path)
    assert "\n" not in str(caught.value)


def test_own_weights_do_not_tell_the_architecture(own):
    _, folder = own
    with pytest.raises(ValueError, match="holds weights only.*a .keras file tells"):
        from_checkpoint(folder / "model.weights.h5")


# --- Settings beside the weights --------------------------------------------------


def hf_folder(folder, config=None, images=None, name="hf-vit"):
    """A copy of a golden folder with other settings."""
    saved(folder, arrays_of(name))
    data = json.loads((GOLDEN / name / "config.json").read_text()) | (config or {})
    (folder / "config.json").write_text(json.dumps(data))
    if images is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return folder


def test_hugging_face_settings(tmp_path):
    p, q = config_of("hf-vit").patch_size
    path = hf_folder(
        tmp_path,
        {
            "num_attention_heads": 4,
            "layer_norm_eps": 1e-3,
            "hidden_act": "gelu_new",
            "image_size": [2 * p, 8 * q],
        },
        {
            "image_mean": [0.1, 0.2, 0.3],
            "image_std": [0.4, 0.5, 0.6],
            "resample": 2,
            "do_center_crop": True,
            "size": {"shortest_edge": 256},
            "crop_size": {"height": 224, "width": 224},
        },
    )
    for file in (path, path / "model.safetensors"):  # beside is beside
        config = describe(recognise(find(file)))
        assert config.num_heads == 4
        assert config.norm_epsilon == 1e-3
        assert config.mlp_activation == "gelu_tanh"
        assert config.image_size == (2 * p, 8 * q)
        assert config.preprocessing == Preprocessing(
            (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 0.875
        )
    assert from_checkpoint(path).config.num_heads == 4


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}, {"mean": (0, 0, 0)}),
        ({"do_normalize": False, "image_mean": [0, 0, 0]}, {"mean": (0.5, 0.5, 0.5)}),
        ({"resample": 0}, {"interpolation": "nearest"}),
        ({"resample": 1}, {"interpolation": "lanczos"}),
        ({"resample": 3}, {"interpolation": "bicubic"}),
        ({"resample": 9}, {"interpolation": "bicubic"}),
        ({"do_center_crop": True, "size": 256, "crop_size": 192}, {"crop": 0.75}),
        ({"do_center_crop": False, "size": 256, "crop_size": 192}, {"crop": 1.0}),
        ({"do_center_crop": True, "size": 200, "crop_size": 224}, {"crop": 1.0}),
    ],
)
def test_hugging_face_images(tmp_path, images, expected):
    path = hf_folder(tmp_path, images=images)
    found = describe(recognise(find(path))).preprocessing
    for field, value in expected.items():
        assert getattr(found, field) == value


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_act": "relu"},
        {"hidden_act": ["gelu"]},
        {"num_attention_heads": None},
        {"num_attention_heads": [2]},
        {"num_attention_heads": 3},
        {"layer_norm_eps": "small"},
        {"layer_norm_eps": -1},
        {"image_size": "large"},
        {"image_size": 0},
        {"image_size": 17},
        {"image_size": {"height": 16}},
        {"patch_size": 0},
    ],
)
def test_hugging_face_settings_that_can_not_be(tmp_path, settings):
    path = hf_folder(tmp_path, settings)
    with pytest.raises(CheckpointError, match="settings") as caught:
        from_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "images",
    [
        {"image_mean": 3, "image_std": 3},
        {"image_mean": [0.5, 0.5, 0.5]},
        {"image_mean": [0.5], "image_std": [0.5]},
        {"image_mean": [0.5] * 3, "image_std": [0] * 3},
        {"do_center_crop": True, "size": 256, "crop_size": -1},
        {"do_center_crop": True, "size": {"a": "b"}, "crop_size": 1},
    ],
)
def test_hugging_face_images_that_can_not_be(tmp_path, images):
    path = hf_folder(tmp_path, images=images)
    with pytest.raises(CheckpointError, match="settings") as caught:
        from_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "nul", '{"a": ' + "[" * 99_999])
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_broken_json_is_refused(tmp_path, file, text):
    path = hf_folder(tmp_path)
    (path / file).write_text(text)
    with pytest.raises(CheckpointError, match="JSON") as caught:
        from_checkpoint(path)
    assert str(path / file) in str(caught.value)
    with refused(model := blank("hf-vit"), str(path / file)):
        load_weights(model, path)


def timm_folder(folder, model=None, images=None, **settings):
    saved(folder, arrays_of("timm-folder"))
    data = json.loads((GOLDEN / "timm-folder" / "config.json").read_text())
    data["model_args"] |= model or {}
    data["pretrained_cfg"] |= images or {}
    (folder / "config.json").write_text(json.dumps(data | settings))
    return folder


def test_timm_settings(tmp_path):
    p, q = config_of("timm-folder").patch_size
    path = timm_folder(
        tmp_path,
        {"num_heads": 4, "act_layer": "gelu_tanh", "img_size": [2 * p, 8 * q]},
        {
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "crop_pct": 0.75,
            "interpolation": "bilinear",
        },
    )
    config = from_checkpoint(path).config
    assert config.num_heads == 4 and config.mlp_activation == "gelu_tanh"
    assert config.image_size == (2 * p, 8 * q)
    assert config.preprocessing == Preprocessing(
        (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", 0.75
    )


@pytest.mark.parametrize(
    ("pool", "expected"), [("token", "token"), ("avg", "gap"), ("", None)]
)
def test_timm_pooling(tmp_path, pool, expected):
    path = timm_folder(tmp_path, {"global_pool": pool})
    config = describe(recognise(find(path)))
    assert config.pooling == expected
    assert config.include_top == (pool != "")


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"act_layer": "relu"}},
        {"model": {"num_heads": "many"}},
        {"model": {"global_pool": ["avg"]}},
        {"images": {"interpolation": "random"}},
        {"images": {"crop_pct": 0}},
        {"images": {"mean": "grey"}},
        {"model_args": [1]},
        {"pretrained_cfg": 3},
    ],
)
def test_timm_settings_that_can_not_be(tmp_path, settings):
    path = timm_folder(tmp_path, **settings)
    with pytest.raises(CheckpointError, match="settings") as caught:
        from_checkpoint(path)
    assert str(path) in str(caught.value)


# --- An index of shards -----------------------------------------------------------


def index(folder, changes=None, data=None):
    """The golden shards with another index."""
    for file in (GOLDEN / "hf-sharded").glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    path = folder / "model.safetensors.index.json"
    if data is None:
        data = json.loads(path.read_text())
        data["weight_map"] |= changes or {}
    path.write_text(json.dumps(data))
    return path


def test_shards_are_one_file(tmp_path):
    path = index(tmp_path)
    expected = values(from_checkpoint(GOLDEN / "hf-sharded"))
    equal(values(from_checkpoint(path)), expected)
    whole = tmp_path / "whole"
    saved(whole, arrays_of("hf-sharded"))
    (whole / "config.json").write_bytes((tmp_path / "config.json").read_bytes())
    equal(values(from_checkpoint(whole)), expected)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("model-00009-of-00009.safetensors", "names a missing shard 'model-00009"),
        ("../x.safetensors", "'../x.safetensors' is no file name"),
        ("sub/x.safetensors", "is no file name"),
        ("/etc/passwd", "'/etc/passwd' is no file name"),
        ("", "'' is no file name"),
        (".", "'.' is no file name"),
        ("..", "missing shard"),
        ("x" * 5000, "missing shard"),
        ("a\0b", "missing shard"),
        (3, "3 is no file name"),
        (None, "None is no file name"),
        ("model.safetensors.index.json", "must end in one of"),
        ("model-00001-of-00003.safetensors", "does not hold 'other.weight'"),
    ],
)
def test_an_index_leads_only_to_its_shards(tmp_path, file, words):
    (tmp_path / "x.safetensors").write_bytes(b"never read")
    folder = tmp_path / "folder"
    folder.mkdir()
    path = index(folder, {"other.weight": file})
    for start in (path, folder):
        with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
            open_whole(start)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 600


def open_whole(path):
    if path.is_dir():  # else the folder would be read by its `model.safetensors`
        assert not (path / "model.safetensors").exists()
    return from_checkpoint(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "must have a `weight_map`"),
        ({"weight_map": []}, "must have a `weight_map`"),
        ({"weight_map": {}}, "holds no arrays"),
        ([], "must hold a JSON object"),
    ],
)
def test_an_index_of_nothing(tmp_path, data, words):
    with pytest.raises(CheckpointError, match=words):
        from_checkpoint(index(tmp_path, data=data))


def test_a_damaged_shard_changes_nothing(tmp_path):
    path = index(tmp_path)
    shard = tmp_path / "model-00003-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-5])
    with refused(model := blank("hf-sharded"), str(shard)):
        load_weights(model, path)


def test_config_of_default_is_no_accident():
    """The golden sizes are none of `ViTConfig`, so that a default cannot pass."""
    for field in SIZES:
        assert config_of("timm-token").to_dict()[field] != ViTConfig().to_dict()[field]


def test_positions_of_the_original_dinov2(tmp_path):
    """Meta's files: the names of timm, and registers that have no positions."""
    arrays = arrays_of("timm-dinov2")
    arrays["register_tokens"] = arrays.pop("reg_token")
    place = np.full_like(arrays["cls_token"], 0.5)
    arrays["cls_token"] = arrays["cls_token"] - place
    arrays["pos_embed"] = np.concatenate([place, arrays["pos_embed"]], axis=1)
    arrays["mask_token"] = np.zeros((1, 8), "float32")
    safetensors.save_file(arrays, tmp_path / "dinov2.safetensors")
    images, outputs = golden("timm-dinov2")
    model = from_checkpoint(
        tmp_path / "dinov2.safetensors", **CASES["timm-dinov2"]["needs"]
    )
    np.testing.assert_allclose(run(model, images), outputs, rtol=0, atol=TOLERANCE)
