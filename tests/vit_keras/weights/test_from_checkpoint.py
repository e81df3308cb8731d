"""Models made of a checkpoint: their head, and what they take from it."""

import re

import keras
import numpy as np
import pytest

from tests.models import images_for, run, slow_but
from tests.vit_keras.weights.golden_files import (
    CASES,
    SIZES,
    TOLERANCE,
    arrays_of,
    blank,
    config_of,
    equal,
    file_of,
    golden,
    head_of,
    refused,
    saved,
    sizes_of,
    values,
)
from vit_keras import (
    PRESETS,
    CheckpointError,
    Preprocessing,
    ViTConfig,
    create_model,
    from_checkpoint,
    load_weights,
)

# Bare files of timm: what they leave open has tests of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*nothing in the file tells")

# --- The head ---------------------------------------------------------------------


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


# --- A preset takes from its checkpoint what shapes do not say ----------------------


# `test_golden.py` opens them all.
@pytest.mark.parametrize("name", slow_but(list(CASES)[::2], CASES))
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


def test_config_of_default_is_no_accident():
    """The golden sizes are none of `ViTConfig`, so that a default cannot pass."""
    for field in SIZES:
        assert config_of("timm-token").to_dict()[field] != ViTConfig().to_dict()[field]
