"""Our weights and their axes: the table, its conversions, and the layouts' rows."""

import re

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import slow_but, tiny, without_memory
from vit_keras import PRESETS, ViTConfig, create_model
from vit_keras.heads import HEADS
from vit_keras.weights.axes import (
    AXES,
    WEIGHTS,
    axes_of,
    bind,
    shape_of,
    shapes_of,
    sizes_of,
    to_ours,
    to_theirs,
    tokens_of,
)
from vit_keras.weights.decoder_axes import FIXED
from vit_keras.weights.layout import LAYOUTS, OWN
from vit_keras.weights.load_plan import OPTIONAL_BIASES


def built(config):
    """Path and shape of every weight that Keras makes; no value is computed."""
    keras.backend.clear_session(free_memory=False)
    with without_memory():
        model = create_model(config)
    return {
        w.path: tuple(w.shape) for w in model.weights if "seed_generator" not in w.path
    }


@st.composite
def configs(draw):
    """Any combination of options that `ViTConfig` takes, in tiny sizes."""
    flag, pooling = st.booleans(), draw(st.sampled_from(["token", "gap", "map", None]))
    heads = draw(st.sampled_from([1, 2, 4]))
    distilled = pooling == "token" and draw(flag)
    channels = draw(st.sampled_from([1, 3]))
    return ViTConfig(
        image_size=(draw(st.sampled_from([8, 12])), 8),
        patch_size=(4, draw(st.sampled_from([2, 4]))),
        channels=channels,
        num_layers=draw(st.integers(1, 2)),
        hidden_size=8,
        num_heads=heads,
        mlp_dim=draw(st.integers(1, 9)),
        head_dim=draw(st.sampled_from([None, 3])),
        qkv_bias=draw(flag),
        qk_norm=draw(flag),
        pre_norm=draw(flag),
        fc_norm=pooling is not None and not distilled and draw(flag),
        layer_scale_init_value=draw(st.sampled_from([None, 0.1])),
        dropout=draw(st.sampled_from([0.0, 0.1])),  # its random state is no weight
        class_token=None if pooling == "token" else draw(flag),
        distillation_token=distilled,
        num_register_tokens=draw(st.sampled_from([0, 3])),
        positions=draw(st.sampled_from(["learned", "sincos2d"])),
        position_prefix=draw(flag),
        patch_norm=draw(flag),
        token_merging=draw(st.sampled_from([(), ((0, 2),)])),
        pooling=pooling,
        representation_size=draw(st.sampled_from([None, 5])),
        include_top=pooling is not None and draw(flag),
        classes=draw(st.integers(1, 4)),
        preprocessing={"mean": [0.5] * channels, "std": [0.5] * channels},
    )


@settings(max_examples=60, deadline=None)
@given(configs())
def test_shapes_are_those_of_the_model(config):
    assert built(config) == shapes_of(config)


# `test_config.py` counts the parameters of each, too.
@pytest.mark.parametrize("name", slow_but(("vit_ti16", "vit_l16"), PRESETS))
def test_shapes_of_presets(name):
    preset = PRESETS[name]
    shapes = shapes_of(preset.config)
    assert built(preset.config) == shapes
    assert sum(int(np.prod(s)) for s in shapes.values()) == preset.parameters


def test_tokens_and_shapes():
    assert tokens_of("(n E) D") == ["(n E)", "D"]
    assert tokens_of("1 1 D") == ["1", "1", "D"]
    assert shape_of("(n E) 1 D", {"n": 3, "E": 4, "D": 5}) == (12, 1, 5)
    assert axes_of("encoderblock_17/attention/query/kernel") == "D E"
    with pytest.raises(KeyError):
        axes_of("encoderblock_0/nothing")


@pytest.mark.parametrize(
    "axes,shape,known,found",
    [
        ("D E", (4, 6), {}, {"D": 4, "E": 6}),
        ("D E", (4, 6), {"D": 4}, {"E": 6}),
        ("(n E) D", (12, 4), {"n": 3, "D": 4}, {"E": 4}),
        ("D (p q C)", (4, 48), {}, {"D": 4}),  # three unknown sizes tell nothing
        ("D (p q C)", (4, 48), {"p": 4, "q": 4}, {"D": 4, "C": 3}),
        ("1 1 D", (1, 1, 7), {}, {"D": 7}),
        ("D D", (3, 3), {}, {"D": 3}),
    ],
)
def test_bind(axes, shape, known, found):
    result = bind(axes, shape, known)
    assert {k: v for k, v in result.items() if k not in known} == found
    assert all(result[k] == known[k] for k in result.keys() & known)


@pytest.mark.parametrize(
    "axes,shape,known",
    [
        ("D E", (4,), {}),  # another number of axes
        ("D E", (4, 6), {"D": 5}),  # contradicts
        ("D D", (3, 4), {}),  # contradicts itself
        ("(n E) D", (13, 4), {"n": 3}),  # does not divide
        ("(n E) D", (12, 4), {"n": 3, "E": 5}),
        ("1 1 D", (1, 2, 7), {}),
    ],
)
def test_bind_refuses(axes, shape, known):
    with pytest.raises(ValueError, match=r"axes, not|does not fit"):
        bind(axes, shape, known)


PATHS = [f"encoderblock_0/attention/{x}/kernel" for x in ("query", "key", "value")]


def both_ways(array, axes, paths, sizes, expected):
    """Checks a conversion and its inverse; `expected` are the weights of ours."""
    ours = to_ours(array, axes, paths, sizes)
    assert len(ours) == len(expected)
    for one, wanted in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(one, wanted)
    np.testing.assert_array_equal(to_theirs(ours, axes, paths[0], sizes), array)


def test_fused_query_key_value():
    """One matrix (3E, D) of timm: query, then key, then value, each turned."""
    rng = np.random.default_rng(0)
    query, key, value = rng.standard_normal((3, 4, 6))  # (D, E) each
    fused = np.concatenate([query.T, key.T, value.T])
    both_ways(fused, "(n E) D", PATHS, {"E": 6, "D": 4}, [query, key, value])
    biases = [path.replace("kernel", "bias") for path in PATHS]
    fused = np.arange(18.0)
    both_ways(fused, "(n E)", biases, {"E": 6}, fused.reshape(3, 6))


def test_stacked_blocks():
    """A scanned model of big_vision: the first axis counts the blocks."""
    rng = np.random.default_rng(0)
    blocks = rng.standard_normal((3, 4, 2, 5))  # L D H d
    paths = [f"encoderblock_{i}/attention/query/kernel" for i in range(3)]
    sizes = {"D": 4, "H": 2, "d": 5, "E": 10}
    both_ways(blocks, "L D H d", paths, sizes, [b.reshape(4, 10) for b in blocks])


def test_heads_are_the_outer_half():
    kernel = np.random.default_rng(0).standard_normal((2, 5, 4))  # H d D
    path = "encoderblock_1/attention/out/kernel"
    sizes = {"H": 2, "d": 5, "D": 4, "E": 10}
    both_ways(kernel, "H d D", [path], sizes, [kernel.reshape(10, 4)])


def test_patches_of_torch_and_flattened_ones():
    kernel = np.random.default_rng(0).standard_normal((4, 2, 3, 5))  # p q C D, ours
    sizes = {"p": 4, "q": 2, "C": 3, "D": 5}
    path = ["embedding/kernel"]
    both_ways(kernel.transpose(3, 2, 0, 1), "D C p q", path, sizes, [kernel])
    both_ways(kernel.reshape(24, 5).T, "D (p q C)", path, sizes, [kernel])


@pytest.mark.parametrize("name", LAYOUTS)
def test_rows_are_of_our_weights(name):
    letters = set(sizes_of(tiny())) | {"n", "L"}
    names = [(row.theirs, row.axes) for row in LAYOUTS[name].rows]
    assert len(names) == len(set(names))  # the sizes decide between two of a name
    for row in LAYOUTS[name].rows:
        assert row.ours
        assert all(path in AXES for path in row.ours), row
        assert len({AXES[path] for path in row.ours}) == 1  # one array, one shape
        in_block = "{i}/" in row.ours[0]
        assert in_block == ("{i}" in row.theirs or row.stacked), row
        for axes in row.axes:
            used = axes.replace("(", " ").replace(")", " ").split()
            assert set(used) - {"1"} <= letters, row
            assert ("n" in used) == (len(row.ours) > 1), row


@pytest.mark.parametrize("name", LAYOUTS)
def test_rows_turn_both_ways(name):
    """Every row, with sizes that all differ, so that a swap cannot hide."""
    sizes = {"D": 30, "H": 5, "d": 6, "E": 30, "M": 7, "C": 3, "p": 2, "q": 4}
    sizes |= {"K": 11, "R": 9, "F": 13, "T": 17, "n": 3, "L": 2}
    sizes |= {"G": 8, "W": 10, "V": 12, "X": 14, "Q": 15, "J": 16, "B": 18, "Z": 19}
    sizes |= {"h": 20, **{f"{axis}{n}": 21 + n for axis in "co" for n in range(4)}}
    sizes |= FIXED
    rng = np.random.default_rng(0)
    for row in LAYOUTS[name].rows:
        if row.theirs == "classifier.weight" and row.axes == ("K D",):
            continue  # twice as wide as ours: there to be known, never to be read
        paths = row.weights(1, sizes["L"])
        sizes["n"] = len(paths)
        for axes in row.axes:
            array = rng.standard_normal(shape_of(axes, sizes))
            ours = to_ours(array, axes, paths, sizes)
            for path, value in zip(paths, ours, strict=True):
                assert value.shape == shape_of(axes_of(path), sizes), path
            if sum(value.size for value in ours) > array.size:
                assert "expand" in paths[0] and paths[0].endswith("bias")  # repeated
                continue
            again = to_theirs(ours, axes, paths[0], sizes)
            np.testing.assert_array_equal(again, array)


DPT = {"decoder": "dpt", "taps": 4, "num_layers": 4}
# The plainest model that each library has.
NATURAL = {
    "augreg": tiny(),
    "big_vision": tiny(pooling="gap"),
    "huggingface_deit": tiny(distillation_token=True),
    "huggingface_dinov2": tiny(layer_scale_init_value=1.0, include_top=False),
    "huggingface_vit": tiny(),
    "huggingface_clip": tiny(pre_norm=True, include_top=False, representation_size=8),
    "huggingface_dinov3": tiny(
        positions="none",
        rotary="dinov3",
        layer_scale_init_value=1.0,
        mlp_gated=True,
        include_top=False,
    ),
    "huggingface_siglip": tiny(pooling="map"),
    "huggingface_siglip2": tiny(pooling="map"),
    "dinov2_heads": tiny(head="segmentation"),
    "huggingface_depth_anything": tiny(
        head="depth", classes=1, layer_scale_init_value=1.0, **DPT
    ),
    "huggingface_dpt": tiny(head="segmentation", tap_norm=False, **DPT),
    "huggingface_eomt": tiny(
        head="segmentation",
        decoder="eomt",
        decoder_depth=1,
        num_register_tokens=1,
        layer_scale_init_value=1.0,
    ),
    "open_clip": tiny(include_top=False, representation_size=6, pre_norm=True),
    "segmenter": tiny(head="segmentation", decoder="mask"),
    "keras_hub": tiny(),
    "keras_hub_deit": tiny(),
    "keras_hub_dinov2": tiny(layer_scale_init_value=1.0, include_top=False),
    "keras_hub_dinov3": tiny(
        positions="none",
        rotary="dinov3",
        layer_scale_init_value=1.0,
        mlp_gated=True,
        include_top=False,
    ),
    "keras_hub_siglip": tiny(pooling="map", include_top=False),
    "timm": tiny(),
    "vit_keras_0_2": tiny(),
    "vit_pytorch": tiny(patch_norm=True, qkv_bias=False),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_whole_vit_has_a_place(name):
    named = {path for row in LAYOUTS[name].rows for path in row.ours}
    shapes = shapes_of(NATURAL[name])
    # Of a layer that is counted, or of one of several others.
    needed = {p if p in named else re.sub(r"_\d+/", "_{i}/", p) for p in shapes}
    assert needed <= named | set(OPTIONAL_BIASES)


WIDE = {"head": "segmentation", "num_layers": 4, "image_size": 32}
DENSE = [
    {"decoder": "linear", "taps": 3},
    {"decoder": "upconv", "decoder_depth": 3, "taps": 2},
    {"decoder": "mask", "decoder_width": 8, "decoder_depth": 1, "taps": 2},
    {"decoder": "dpt", "taps": 4, "readout": "project"},
    {"decoder": "dpt", "taps": 4, "tap_norm": False, "head": "depth", "classes": 1},
    {"decoder": "eomt", "decoder_queries": 7, "patch_size": 16},
]


@pytest.mark.parametrize("options", DENSE, ids=lambda options: options["decoder"])
def test_every_weight_of_a_decoder_is_in_the_table(options):
    config = tiny(**{**WIDE, **options})
    keras.backend.clear_session(free_memory=False)
    with without_memory():
        model = create_model(config, task=HEADS[config.head].task)
    made = {w.path: tuple(w.shape) for w in model.weights}
    assert made == shapes_of(config)


def test_our_own_layout_names_every_weight_once():
    paths = [path for _, rows in WEIGHTS for path, _ in rows]
    assert len(paths) == len(set(paths)) == len(OWN.rows)
    assert {row.ours for row in OWN.rows} == {(path,) for path in paths}
