"""Rotary positions, gates and norms: what the papers say of them, in NumPy."""

import keras
import numpy as np
import pytest

from tests.models import randomise, run
from vit_keras import ViTConfig, create_model, layers
from vit_keras.rotary_positions import ROTARY, rotary_angles

GRID, HEAD_DIM = (3, 4), 8


def turned(vectors, **options):
    """Vectors (T, d) as queries of one head of one image, turned."""
    layer = layers.RotaryEmbedding(grid=GRID, **options)
    inputs = vectors[None, :, None].astype("float32")
    return keras.ops.convert_to_numpy(layer(inputs))[0, :, 0]


def vectors(tokens, seed=0):
    return np.random.default_rng(seed).standard_normal((tokens, HEAD_DIM))


@pytest.mark.parametrize("kind", ROTARY)
def test_lengths_and_prefix_tokens_stay(kind):
    x = vectors(2 + 12)
    y = turned(x, kind=kind)
    np.testing.assert_array_equal(y[:2], x[:2].astype("float32"))
    lengths = np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1)
    np.testing.assert_allclose(*lengths, rtol=1e-6)  # float32
    assert np.abs(y[2:] - x[2:]).max() > 0.1


@pytest.mark.parametrize("kind", ROTARY)
def test_scores_tell_the_distance_alone(kind):
    """Of one query and one key, the same for all pairs of patches as far apart."""
    query, key = vectors(2)
    copies = (np.tile(vector, (12, 1)) for vector in (query, key))
    q, k = (turned(x, kind=kind).reshape(3, 4, -1) for x in copies)
    scores = np.einsum("yxd,vud->yxvu", q, k)
    for y, x in ((0, 1), (1, 0), (1, 2)):
        same = [scores[i, j, i + y, j + x] for i in range(3 - y) for j in range(4 - x)]
        assert np.ptp(same) < 1e-5  # float32
    assert abs(scores[0, 0, 0, 1] - scores[0, 0, 1, 0]) > 1e-3


def test_angles_of_the_paper():
    """DINOv3: coordinates from -1 to 1 at the centres of the patches."""
    angles = rotary_angles("dinov3", (2, 1), 8)
    frequencies = 100.0 ** np.array([0.0, -0.5])
    rows = 2 * np.pi * np.array([-0.5, 0.5])[:, None] * frequencies
    np.testing.assert_allclose(angles, np.concatenate([rows, 0 * rows], 1), atol=1e-12)


def test_reference_grid_rescales_the_indices():
    """EVA-02: a model trained on 2 x 2 patches sees halves of them on 4 x 4."""
    coarse = rotary_angles("eva02", (2, 2), 8)
    fine = rotary_angles("eva02", (4, 4), 8, reference_grid=(2, 2))
    np.testing.assert_allclose(fine.reshape(4, 4, -1)[::2, ::2].reshape(4, -1), coarse)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "rope"}, "kind.*dinov3.*Received: kind='rope'"),
        ({"kind": "pe", "head_dim": 6}, "multiple of 4"),
    ],
)
def test_refused(options, message):
    width = options.pop("head_dim", 8)
    with pytest.raises(ValueError, match=message):
        layers.RotaryEmbedding(grid=GRID, **options)(np.zeros((1, 12, 1, width)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rotary": "rope"}, "rotary"),
        ({"rotary_grid": 14}, "rotary"),
        ({"rotary": "pe", "hidden_size": 30, "num_heads": 3}, "multiple of 4"),
        ({"post_norm": True, "layer_scale_init_value": 1e-5}, "layer_scale_init_value"),
        ({"pooling": "max", "fc_norm": True}, "fc_norm"),
        ({"pool_heads": 2}, "pool_heads"),
        ({"pooling": None, "include_top": False, "unit_norm": True}, "unit_norm"),
        ({"representation_activation": "relu"}, "representation_activation"),
        ({"rotary": "pe", "rotary_temperature": 0}, "rotary_temperature"),
    ],
)
def test_configurations_that_do_not_fit_together(changes, message):
    with pytest.raises(ValueError, match=message):
        ViTConfig(**changes)


def test_a_gate_multiplies_the_first_layer():
    mlp = layers.MlpBlock(7, "silu", gated=True, inner_norm=True)
    x = vectors(5)[None].astype("float32")
    mlp(x)
    w = {v.path.split("/", 1)[1]: np.asarray(v) for v in randomise(mlp).weights}
    gate = x @ w["gate/kernel"] + w["gate/bias"]
    y = gate / (1 + np.exp(-gate)) * (x @ w["dense1/kernel"] + w["dense1/bias"])
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    y = y * w["inner_norm/gamma"] + w["inner_norm/beta"]
    expected = y @ w["dense2/kernel"] + w["dense2/bias"]
    np.testing.assert_allclose(run(mlp, x), expected, rtol=0, atol=1e-5)  # float32


def test_unit_norm_and_max_pooling():
    x = vectors(3).astype("float32")
    lengths = np.linalg.norm(run(layers.UnitNorm(), x), axis=-1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)
    assert not run(layers.UnitNorm(), np.zeros((1, 4), "float32")).any()
    pooled = run(layers.MaxPooling(1), x[None])
    np.testing.assert_array_equal(pooled, x[None, 1:].max(1))


def test_post_norms_are_behind_the_branches():
    """With norms that give zeros nothing is added to the stream."""
    block = layers.EncoderBlock(2, 16, post_norm=True)
    x = vectors(5)[None].astype("float32")
    block(x)
    for norm in (block.norm1, block.norm2):
        norm.gamma.assign(np.zeros(HEAD_DIM))
    np.testing.assert_array_equal(run(block, x), x)


def test_keys_without_bias_and_no_positions():
    config = ViTConfig(
        image_size=16,
        patch_size=8,
        num_layers=1,
        key_bias=False,
        positions="none",
        classes=3,
    )
    paths = {w.path for w in create_model(config).weights}
    assert "encoderblock_0/attention/query/bias" in paths
    assert "encoderblock_0/attention/key/bias" not in paths
    assert not any("posembed" in path for path in paths)
