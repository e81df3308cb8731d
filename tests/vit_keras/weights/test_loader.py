"""What loading promises: the right values, one report, and no half-changed model."""

import re

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vit_keras.weights.golden_files import (
    AUGREG,
    CASES,
    arrays_of,
    blank,
    config_of,
    equal,
    file_of,
    hf_folder,
    refused,
    saved,
    values,
)
from vit_keras import CheckpointError, from_checkpoint, load_weights

# Files of timm and keras-hub without settings.
pytestmark = pytest.mark.filterwarnings("ignore:.*nothing in the file tells")

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
    path = hf_folder(tmp_path, config={"hidden_act": "mish"})
    with refused(model := blank("hf-vit"), ["'mish'", str(path)]):
        load_weights(model, path)


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
