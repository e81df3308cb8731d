"""The decoders' own formulas, with NumPy, and which options each has."""

import keras
import numpy as np
import pytest

from tests.models import MAP_IMAGES as IMAGES
from tests.models import MAP_SIZES, randomise, run
from vit_keras import ViTConfig, create_model
from vit_keras.decoder_sizes import OPTIONS, decoder_sizes
from vit_keras.layers import FirstTokens, QueryScores, Readout

SIZES = {**MAP_SIZES, "classes": 5}


def built(decoder, task="segment", **options):
    model = create_model("vit_ti16", task=task, decoder=decoder, **{**SIZES, **options})
    return randomise(model)


def outputs_of(model, *names):
    """What layers compute for the images."""
    inner = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    return [np.asarray(x) for x in inner.predict(IMAGES, verbose=0)]


def test_tokens_apart():
    tokens = np.arange(2 * 5 * 3, dtype="float32").reshape(2, 5, 3)
    assert np.array_equal(np.asarray(FirstTokens(2)(tokens)), tokens[:, :2])
    both = np.asarray(Readout(2)(tokens))
    assert both.shape == (2, 3, 6)
    assert np.array_equal(both[..., :3], tokens[:, 2:])
    assert np.array_equal(both[:, 1, 3:], tokens[:, 0])


def test_scores_of_queries():
    rng = np.random.default_rng(0)
    masks, classes = rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 3, 5))
    shares = np.exp(classes) / np.exp(classes).sum(-1, keepdims=True)
    scores = 1 / (1 + np.exp(-masks)) @ shares[..., :-1]
    inputs = [masks.astype("float32"), classes.astype("float32")]
    found = np.asarray(QueryScores()(inputs))
    # Rounding of float32 alone.
    np.testing.assert_allclose(found, np.log(scores + 1e-6), atol=2e-6)


def test_mask_is_the_cosine_of_patches_and_classes():
    model = built("mask", decoder_width=48, decoder_depth=1, taps=2)
    assert model.get_layer("decoder_block_0").num_heads == 3  # of the encoder's width
    tokens, found = outputs_of(model, "decoder_norm", "decoder_class_norm")
    weights = [
        np.asarray(model.get_layer(f"decoder_project_{part}").kernel)
        for part in ("classes", "patches")
    ]
    classes, patches = tokens[:, :5] @ weights[0], tokens[:, 5:] @ weights[1]
    classes /= np.linalg.norm(classes, axis=-1, keepdims=True)
    patches /= np.linalg.norm(patches, axis=-1, keepdims=True)
    cosine = patches @ classes.transpose(0, 2, 1)
    cosine -= cosine.mean(-1, keepdims=True)
    cosine /= np.sqrt(cosine.var(-1, keepdims=True) + 1e-6)
    norm = model.get_layer("decoder_class_norm")
    expected = cosine * np.asarray(norm.gamma) + np.asarray(norm.beta)
    # Float32 products of 48 terms, divided by a standard deviation of about 0.1.
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_queries_take_part_in_the_last_blocks_alone():
    model = built("eomt", decoder_queries=7, decoder_depth=2, num_register_tokens=1)
    lengths = [model.get_layer(f"encoderblock_{i}").output.shape[1] for i in range(4)]
    assert lengths == [26, 26, 33, 33]
    tokens, queries, classes, x, masks = outputs_of(
        model,
        "encoder_norm",
        "decoder_queries_only",
        "decoder_classes",
        "decoder_pixels",
        "decoder_masks",
    )
    assert classes.shape == (2, 7, 6)
    assert x.shape == (2, 8 * 12, 32)  # patches of 8: one step
    assert np.array_equal(queries, tokens[:, :7])
    assert masks.shape == (2, 96, 7)


@pytest.mark.parametrize("size", [(32, 48), (24, 40)])
@pytest.mark.parametrize("readout", ["ignore", "project"])
def test_dpt_fuses_maps_of_four_sizes(size, readout):
    """Also of an odd grid, whose coarsest map is larger than half of it."""
    model = built("dpt", taps=4, readout=readout, image_size=size)
    rows, columns = size[0] // 8, size[1] // 8
    shapes = [model.get_layer(f"decoder_conv_{i}").output.shape[1:] for i in range(4)]
    half = (-(-rows // 2), -(-columns // 2), 64)
    assert shapes == [
        *((n * rows, n * columns, 64) for n in (4, 2, 1)),
        half,
    ]
    assert model.get_layer("decoder_resize_3").output.shape[1] == 8 * rows
    assert model.output.shape == (None, *size, 5)


def test_a_projection_before_an_interpolation_is_one_behind_it():
    """As the published decoder has it."""
    model = built("dpt", taps=4)
    layer, after = (
        model.get_layer("decoder_fuse_0"),
        model.get_layer("decoder_resize_0"),
    )
    x, found = outputs_of(model, "decoder_add_0b", "decoder_resize_0")
    expected = keras.ops.convert_to_numpy(layer(after(x)))
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() < 1e-5 * scale  # rounding alone


def test_depth_is_a_share_of_the_largest():
    options = {"taps": 4, "activation": "sigmoid", "classes": 1}
    share = built("dpt", "depth", **options)
    depth = built("dpt", "depth", **options, max_depth=80.0)
    depth.set_weights(share.get_weights())
    expected = 80 * run(share, IMAGES)
    np.testing.assert_allclose(run(depth, IMAGES), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="`max_depth` must be above 0"):
        built("dpt", "depth", **options, max_depth=-1)
    with pytest.raises(ValueError, match="`depth_type` must be one of"):
        built("dpt", "depth", **options, depth_type="relative")
    with pytest.raises(ValueError, match="`depth_type` must be 'metric' for another"):
        built("dpt", taps=4, depth_type="inverse")
    with pytest.raises(ValueError, match="for another head than 'depth'"):
        built("dpt", taps=4, max_depth=1.0)


WRONG = [
    ({"decoder": "linear", "decoder_width": 8}, "an option of upconv, mask, dpt"),
    ({"decoder": "mask", "decoder_queries": 8}, "an option of eomt"),
    ({"decoder": "dpt", "taps": 4, "decoder_channels": (1, 2)}, "4 positive integers"),
    ({"decoder": "dpt", "taps": 2}, "`taps` must be 4"),
    ({"decoder": "dpt", "taps": 4, "readout": "add"}, "one of ignore, project"),
    (
        {"decoder": "dpt", "taps": 4, "readout": "project", "pooling": "gap"},
        "without class token",
    ),
    ({"decoder": "eomt", "taps": 2}, "`taps` must be 1"),
    ({"decoder": "eomt", "decoder_depth": 5}, "at most num_layers"),
    ({"decoder": "mask", "head": "depth", "classes": 1}, "of classes alone"),
    ({"decoder": "mask", "decoder_width": 40}, "multiple of the width"),
]


@pytest.mark.parametrize("options, words", WRONG)
def test_options_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        ViTConfig(**{**SIZES, **options})


def test_options_are_fields_and_have_defaults():
    fields = ViTConfig.__dataclass_fields__
    for decoder, options in OPTIONS.items():
        assert fields.keys() >= options.keys()
        taps = {"dpt": 4}.get(decoder, 1)
        config = ViTConfig(**{**SIZES, "decoder": decoder, "taps": taps})
        assert decoder_sizes(config).width > 0
        assert ViTConfig(**config.to_dict()) == config
