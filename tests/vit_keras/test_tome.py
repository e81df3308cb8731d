"""Similar tokens become one (ToMe): places, sizes, attention, and what is refused."""

import keras
import numpy as np
import pytest
from keras import ops

from tests import reference
from tests.models import images_for, randomise, tiny, weights_of
from vit_keras import attention_map, create_model, layers, token_groups
from vit_keras.layers.tome import match_tokens, merge_tokens
from vit_keras.visualize import merged_tokens


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def numpy(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    ("tokens", "merged", "prefix"),
    [(17, 5, 1), (16, 8, 0), (15, 7, 0), (21, 3, 4), (18, 8, 2), (3, 1, 1), (2, 1, 0)],
)
def test_places_are_those_of_the_slow_algorithm(tokens, merged, prefix, dtype):
    keys = values(3, tokens, 4).astype(dtype)
    found = match_tokens(ops.convert_to_tensor(keys), merged, prefix)
    kept, moved, partners = (numpy(x) for x in found)
    for i in range(3):
        leave, stay = reference.matched(keys[i].astype("float32"), merged, prefix)
        pairs = zip(2 * moved[i], 2 * partners[i] + 1, strict=True)
        assert [tuple(p) for p in pairs] == leave
        assert list(2 * kept[i]) == stay


def test_of_equal_tokens_the_first():
    """As those of a border of one colour would be, without positions."""
    keys = np.repeat(np.float32([[[1, 0, 0], [0, 1, 0], [0, 0, 1]]]), 6, axis=1)
    found = match_tokens(ops.convert_to_tensor(keys), 5, 0)
    leave, stay = reference.matched(keys[0], 5, 0)
    assert leave == [(0, 1), (2, 1), (4, 1), (6, 7), (8, 7)] and stay[0] == 10
    assert [list(numpy(x)[0]) for x in found] == [
        [5, 6, 7, 8],
        [0, 1, 2, 3, 4],
        [0, 0, 0, 3, 3],
    ]


def test_merged_tokens_are_means_of_patches():
    x, sizes = (
        values(2, 9, 5),
        np.float32([[[1], [2], [3], [1], [4], [1], [1], [2], [1]]]),
    )
    sizes = np.repeat(sizes, 2, axis=0)
    keys = values(2, 9, 4, seed=1)
    match = match_tokens(ops.convert_to_tensor(keys), 3, 1)
    tokens, counts = map(numpy, merge_tokens(x, sizes, match, 1))
    assert tokens.shape == (2, 6, 5) and counts.shape == (2, 6, 1)
    assert (counts.sum(1) == 16).all()
    np.testing.assert_allclose((tokens * counts).sum(1), (x * sizes).sum(1), rtol=1e-5)
    assert np.array_equal(tokens[:, 0], x[:, 0])  # the prefix
    for i in range(2):
        one = (a[i].astype("float64") for a in (keys, x, sizes[..., 0]))
        expected = reference.fewer(*one, 3, 1)[0]
        # Sums of few float32 numbers of order 1.
        np.testing.assert_allclose(tokens[i], expected, atol=1e-6)


def test_a_token_of_size_k_counts_as_k_tokens():
    attention = layers.MultiHeadAttention(2)
    x, sizes = values(2, 4, 6), np.float32([1, 3, 1, 2])
    attention.build(x.shape)
    randomise(attention)
    counted = attention(x, token_sizes=np.tile(sizes[:, None], (2, 1, 1)))
    repeated = attention(x, np.repeat(x, sizes.astype(int), axis=1))
    np.testing.assert_allclose(numpy(counted), numpy(repeated), atol=1e-5)


def test_fused_attention_counts_them_too():
    x, sizes = values(2, 4, 6), np.full((2, 4, 1), 2, "float32")
    sizes[:, 1] = 5
    plain, fused = (layers.MultiHeadAttention(2, fused=f) for f in (False, True))
    for one in (plain, fused):
        one.build(x.shape)
    randomise(plain)
    fused.set_weights(plain.get_weights())
    both = [numpy(one(x, token_sizes=sizes)) for one in (plain, fused)]
    np.testing.assert_allclose(*both, atol=1e-5)


@pytest.mark.parametrize("merged", [0, 3])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_the_block_says_what_it_returns(merged, policy):
    block = layers.ToMeBlock(2, 8, merged, 1, dtype=policy, name="mine")
    x = keras.Input((9, 6))
    outputs = block(x)
    assert [tuple(y.shape) for y in outputs] == [(None, 9 - merged, n) for n in (6, 1)]
    shapes = block.compute_output_shape((2, 9, 6))
    computed = block(values(2, 9, 6))
    assert [tuple(y.shape) for y in computed] == [tuple(s) for s in shapes]
    for symbolic, real in zip(outputs, computed, strict=True):
        assert symbolic.dtype == keras.backend.standardize_dtype(real.dtype)
    config = block.get_config()
    assert (config["merged"], config["num_prefix_tokens"]) == (merged, 1)
    assert layers.ToMeBlock.from_config(config).merged == merged


def test_without_merging_it_is_an_encoder_block():
    plain, block = layers.EncoderBlock(2, 8), layers.ToMeBlock(2, 8)
    x = values(2, 5, 6)
    for one in (plain, block):
        one.build(x.shape)
    randomise(plain)
    block.set_weights(plain.get_weights())
    tokens, sizes = block(x)
    np.testing.assert_allclose(numpy(tokens), numpy(plain(x)), atol=1e-6)
    assert (numpy(sizes) == 1).all()


def test_weights_are_those_of_the_plain_model(tmp_path):
    config = tiny(image_size=(24, 40), tome=(5, 3), layer_scale_init_value=0.1)
    model = randomise(create_model(config))
    plain = create_model(config.replace(tome=()))
    assert list(weights_of(plain)) == list(weights_of(model))
    assert config.block_tokens == (16, 11)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    images = images_for(config)
    assert loaded.config == config
    assert np.array_equal(numpy(loaded(images)), numpy(model(images)))
    plain.set_weights(model.get_weights())
    assert not np.allclose(numpy(plain(images)), numpy(model(images)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tome": (3,)}, "one for each of 2 blocks"),
        ({"tome": 3}, "a tuple of integers"),
        ({"tome": (3, -1)}, "a tuple of integers"),
        ({"tome": (3, True)}, "a tuple of integers"),
        ({"tome": (8, 0)}, "block 0 has 15"),
        ({"tome": (7, 5)}, "block 1 has 8"),
        ({"tome": (3, 3), "pooling": "map"}, "pooling='map'"),
        ({"tome": (3, 3), "head_dim": 8, "rotary": "dinov3"}, "rotary='dinov3'"),
        ({"tome": (3, 3), "token_merging": ((1, 2),)}, "token_merging"),
    ],
)
def test_configurations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(image_size=(24, 40), **options)


def test_what_needs_the_grid_is_refused():
    config = tiny(image_size=(24, 40), tome=(5, 3))
    with pytest.raises(ValueError, match="`tome` must be \\(\\) for task='features'"):
        create_model(config, task="features")
    with pytest.raises(ValueError, match=r"tome=\(5, 3\)"):
        attention_map(create_model(config), images_for(config))
    block = layers.ToMeBlock(2, 8, merged=5)
    with pytest.raises(ValueError, match="`merged` must be from 0 to 4"):
        block.build((None, 9, 6))


@pytest.mark.parametrize("prefix", [{}, {"num_register_tokens": 2}, {"pooling": "gap"}])
def test_patches_of_a_token_are_what_its_size_says(prefix):
    config = tiny(image_size=(24, 40), tome=(5, 3), **prefix)
    model, images = randomise(create_model(config)), images_for(config)
    found = token_groups(model, images)
    assert found.shape == (2, *config.grid)
    last = keras.Model(model.input, model.get_layer("encoderblock_1").output)
    sizes = numpy(last(images)[1])[:, config.num_prefix_tokens :, 0]
    for groups, counts in zip(found, sizes, strict=True):
        _, patches = np.unique(groups, return_counts=True)
        assert sorted(patches) == sorted(counts) and len(counts) == 7
        first = [list(groups.ravel()).index(i) for i in range(7)]
        assert first == sorted(first)
    # Equal patches have equal keys, as long as positions do not tell them apart.
    plain = tiny(image_size=(24, 40), tome=(5, 0), positions="none", **prefix)
    one = np.zeros((1, 24, 40, 3), "float32")
    one[:, :, 24:] = 1.0
    groups = token_groups(randomise(create_model(plain)), one)[0]
    for group in range(10):
        assert len(set(np.where(groups == group)[1] >= 3)) == 1


def test_groups_of_neighbours_and_of_none():
    config = tiny(image_size=(24, 40), token_merging=((1, 2),))
    groups = token_groups(create_model(config), images_for(config))
    assert groups[1].tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    plain = tiny(image_size=(24, 40))
    groups = token_groups(create_model(plain), images_for(plain))
    assert groups[0].ravel().tolist() == list(range(15))
    with pytest.raises(ValueError, match="VisionTransformer"):
        token_groups(keras.Sequential([keras.Input((8,))]), images_for(plain))


def test_a_picture_of_groups():
    image = np.zeros((4, 6, 3), "uint8")
    image[:, :3] = 10
    image[:2, 3:], image[2:, 3:] = 100, 200
    picture = merged_tokens(image, np.array([[0, 1], [0, 1]]))
    assert (picture[:, :3] == 10).all() and (picture[:, 3] == 0).all()
    assert (picture[:, 4:] == 150).all()
    with pytest.raises(ValueError, match=r"groups \(5, 2\)"):
        merged_tokens(image, np.zeros((5, 2), int))
