"""Every rewrite keeps what a model computes; together they change what int8 sees."""

import dataclasses

import keras
import numpy as np
import pytest

import export
import vit_keras
from export.graph.build import inference_graph
from export.graph.find_vit import find_vit
from export.graph.inference_layer import InferenceViT
from export.graph.orthogonal import hadamard, orthogonal
from export.graph.read_vit import read_weights
from export.graph.rewrites import REWRITES
from export.graph.shifts import shift_keys
from export.graph.shifts import shift_values as shift_v
from export.targets import PATCH_PROJECTIONS, GraphOptions
from tests.models import slow_but
from vit_keras.preprocessing import Preprocessing, normalize

SMALL = {
    "image_size": 16,
    "patch_size": 8,
    "hidden_size": 24,
    "num_layers": 2,
    "num_heads": 2,
    "mlp_dim": 40,
    "classes": 5,
}
# Model options, and the rewrites that cannot apply to them.
KINDS = {
    "token": ({}, ()),
    "gap": ({"pooling": "gap"}, ()),
    "map": ({"pooling": "map"}, ()),
    "fc_norm": ({"pooling": "gap", "fc_norm": True}, ()),
    "distilled": ({"distillation_token": True}, ()),
    "registers": ({"num_register_tokens": 3}, ()),
    "no class token": ({"class_token": False, "pooling": "gap"}, ()),
    "layer scale": ({"layer_scale_init_value": 0.1}, ()),
    "qk norm": ({"qk_norm": True}, ("drop_key_bias",)),
    "patch norm": (
        {"patch_norm": True},
        ("centre_writers", "rotate_stream"),
    ),
    "patch norm, channels apart": (
        {"patch_norm": True, "preprocessing": Preprocessing((0.4, 0.5, 0.6))},
        ("fold_input", "centre_writers", "rotate_stream"),
    ),
    "pre norm": ({"pre_norm": True}, ("centre_writers", "rotate_stream")),
    "no head": ({"include_top": False}, ()),
    "tokens": ({"include_top": False, "pooling": None}, ()),
    "pre_logits": ({"representation_size": 7}, ()),
    "sincos": ({"positions": "sincos2d"}, ()),
    "positions first": ({"position_prefix": False}, ()),
    "no qkv bias": ({"qkv_bias": False}, ()),
    "tanh gelu, softmax": (
        {"mlp_activation": "gelu_tanh", "activation": "softmax"},
        (),
    ),
    "wide heads": ({"head_dim": 8}, ()),
    "features": ({"task": "features", "num_register_tokens": 2}, ()),
    "rotary": (
        {"rotary": "pe", "positions": "none", "head_dim": 8},
        ("drop_key_bias",),
    ),
    "rotary, qk norm": (
        {"rotary": "dinov3", "qk_norm": True, "head_dim": 8},
        ("drop_key_bias",),
    ),
    "gates": (
        {"mlp_gated": True, "mlp_norm": True, "attention_norm": True},
        (),
    ),
    "post norm": ({"post_norm": True}, ("centre_writers", "rotate_stream")),
    "max": ({"pooling": "max"}, ()),
    "map of all tokens": (
        {"pooling": "map", "class_token": True, "pool_prefix": True, "pool_heads": 1},
        (),
    ),
    "unit norm": ({"unit_norm": True}, ()),
    "projected": (
        {
            "representation_size": 7,
            "representation_activation": "linear",
            "unit_norm": True,
        },
        (),
    ),
}


def build(kind):
    keras.utils.set_random_seed(0)
    options = {**SMALL, **KINDS[kind][0]}
    task = options.pop("task", "classify")
    model = vit_keras.create_model(vit_keras.ViTConfig(**options), task=task)
    draws = np.random.default_rng(0)
    for weight in model.weights:  # norms and biases that are not one and zero
        weight.assign(weight.numpy() + draws.normal(0, 0.2, weight.shape))
    return model


def pixels(number=3):
    draws = np.random.default_rng(1)
    return draws.uniform(0, 255, (number, 16, 16, 3)).astype("float32")


def reference(model, images):
    return np.asarray(model(normalize(images, model.config.preprocessing)), "float64")


def same(weights, expected, form=None, tolerance=1e-5):
    outputs = np.asarray(InferenceViT(weights, form)(pixels()))
    # Float32 sums in another order, relative to the outputs' range.
    assert np.abs(outputs - expected).max() < tolerance * np.ptp(expected)


def shifted(weights):
    """Whether keys and values lost a mean: exact whatever it is."""
    inner = weights.blocks[0].attention.heads * weights.blocks[0].attention.head_dim
    means = np.random.default_rng(2).normal(size=(2, inner))
    return shift_keys(weights, means), shift_v(weights, means)


# The weights of these are rewritten as those of others here are.
ALIKE = {"no class token", "no head", "tokens", "sincos", "positions first"}
ALIKE |= {"tanh gelu, softmax", "pre_logits"}


@pytest.mark.parametrize("kind", slow_but(KINDS.keys() - ALIKE, KINDS))
def test_each_rewrite_is_exact(kind):
    model = build(kind)
    expected = reference(model, pixels())
    weights = read_weights(model, model.config.preprocessing.scale_and_offset())
    same(weights, expected)
    skipped = set()
    for name, rewrite in REWRITES.items():
        if rewrite(weights):
            same(weights, expected)
        else:
            skipped.add(name)
    assert ("fold_layer_scale" in skipped) == (kind != "layer scale")
    assert ("fold_probe" in skipped) == (model.config.pooling != "map")
    assert skipped - {"fold_layer_scale", "fold_probe"} == set(KINDS[kind][1])
    turned = model.config.qk_norm or model.config.rotary is not None
    assert shifted(weights) == (not turned, not model.config.attention_norm)
    same(weights, expected)


# Those whose attention, norms or patches a form writes in another way.
FORMED = (
    "token",
    "map",
    "map of all tokens",
    "qk norm",
    "rotary",
    "gates",
    "post norm",
)
FORMED += ("patch norm", "patch norm, channels apart", "wide heads", "features")


@pytest.mark.parametrize("kind", slow_but(FORMED, KINDS))
def test_each_form_of_the_graph_is_exact(kind):
    model = build(kind)
    expected = reference(model, pixels())
    weights = read_weights(model, model.config.preprocessing.scale_and_offset())
    for rewrite in REWRITES.values():
        rewrite(weights)
    shifted(weights)
    for option in ("split_softmax", "heads_apart", "keys_as_rows", "convolutions"):
        same(weights, expected, GraphOptions(**{option: True}))
    for projection in PATCH_PROJECTIONS:
        same(weights, expected, GraphOptions(patch_projection=projection))
    split = GraphOptions(split_softmax=True, heads_apart=True, convolutions=True)
    same(weights, expected, split)
    same(weights, expected, dataclasses.replace(split, transposed_scores=True))
    transposed = GraphOptions(split_softmax=True, transposed_scores=True)
    same(weights, expected, transposed)
    same(weights, expected, dataclasses.replace(transposed, vela_reductions=True))
    # The tanh form differs from the exact GELU by up to 5e-4.
    same(weights, expected, GraphOptions(gelu="tanh"), 2e-3)


@pytest.mark.parametrize("kind", ["token", "pre norm", "features"])
def test_graph_leaves_the_model_alone(kind):
    model, images = build(kind), pixels()
    before = model.get_weights()
    graph = inference_graph(model, model.config.preprocessing, images)
    np.testing.assert_allclose(
        graph.function(images), reference(model, images), rtol=0, atol=1e-4
    )
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert graph.rewrites[-2:] == ("shift_keys", "shift_values")
    assert bool(graph.notes) == (kind == "pre norm")


def test_norms_lose_mean_and_scale_and_keys_their_mean():
    model, images = build("token"), pixels(8)
    graph = inference_graph(model, model.config.preprocessing, images)
    weights = graph.function.source_weights
    for norm in (weights.norm, *(b.norm1 for b in weights.blocks)):
        assert norm.gamma is None and not norm.centred
    layer = InferenceViT(weights)
    layer.seen = []
    layer(images)
    for keys, values in zip(layer.seen[1::3], layer.seen[2::3], strict=True):
        spread = np.abs(np.asarray(keys)).max()
        assert np.abs(np.asarray(keys).mean((0, 1))).max() < 1e-4 * spread
        assert np.abs(np.asarray(values).mean((0, 1))).max() < 1e-4 * spread


def test_rotation_removes_an_outlier():
    model = build("token")
    layer = model.get_layer("encoderblock_0").mlp.dense2
    kernel = layer.kernel.numpy()
    kernel[:, 3] *= 50  # one channel of the stream
    layer.kernel.assign(kernel)
    weights = read_weights(model, None)

    def peak():
        writer = weights.blocks[0].dense2.kernel
        rms = np.sqrt((writer**2).mean(0))
        return rms.max() / np.median(rms)

    for name, rewrite in REWRITES.items():
        if name == "rotate_stream":
            before = peak()
        rewrite(weights)
    assert before > 20 and peak() < 2


def test_nested_model_is_rewritten_inside(tmp_path):
    vit = build("token")
    inputs = keras.Input((16, 16, 3))
    outputs = keras.layers.Dense(3, name="mine")(vit(inputs))
    model = keras.Model(inputs, outputs)
    assert find_vit(model) is vit
    prep, images = vit.config.preprocessing, pixels()
    graph = inference_graph(model, prep, images)
    assert "rotate_stream" in graph.rewrites
    expected = np.asarray(model(normalize(images, prep)))
    np.testing.assert_allclose(graph.function(images), expected, rtol=0, atol=1e-4)
    images = images.astype("uint8")
    report = export.to_tflite(model, tmp_path / "m.tflite", calibration=images)
    assert report.parity.passed and "rotate_stream" in report.rewrites


@pytest.mark.parametrize("before", [False, True])
def test_a_vit_that_was_built_into_a_model_layer_by_layer(before, tmp_path):
    vit = build("registers")
    prep, images = vit.config.preprocessing, pixels()
    tokens = vit.get_layer("encoder_norm").output
    x = keras.layers.GlobalAveragePooling1D()(tokens)
    model = keras.Model(vit.input, keras.layers.Dense(3, activation="softmax")(x))
    if before:  # and layers in front of it
        inputs = keras.Input((16, 16, 3))
        flipped = keras.layers.Permute((2, 1, 3))(inputs)
        model = keras.Model(inputs, keras.ops.flip(model(flipped), 1))
        model = keras.Model(model.input, model.output)
    assert find_vit(model) is None
    graph = inference_graph(model, prep, images)
    expected = np.asarray(model(normalize(images, prep)))
    np.testing.assert_allclose(graph.function(images), expected, rtol=0, atol=1e-5)
    if not before:
        assert "rotate_stream" in graph.rewrites
        options = {"preprocessing": prep, "calibration": images.astype("uint8")}
        report = export.to_tflite(model, tmp_path / "m.tflite", **options)
        assert "rotate_stream" in report.rewrites


def test_layers_before_the_patches():
    vit = build("token")
    prep, images = vit.config.preprocessing, pixels()
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Permute((2, 1, 3))(inputs)
    for layer in vit.layers[1:]:
        x = layer(x)
    model = keras.Model(inputs, x)
    graph = inference_graph(model, prep, images)
    assert "rotate_stream" in graph.rewrites
    assert "fold_input" not in graph.rewrites
    expected = np.asarray(model(normalize(images, prep)))
    np.testing.assert_allclose(graph.function(images), expected, rtol=0, atol=1e-4)


def test_tokens_read_between_blocks_stay_as_they_are():
    vit = build("token")
    early = vit.get_layer("encoderblock_0").output
    late = vit.get_layer("encoder_norm").output
    model = keras.Model(vit.input, keras.layers.Concatenate()([early, late]))
    images = pixels()
    graph = inference_graph(model, vit.config.preprocessing, images)
    assert graph.rewrites == () and "converted as it is" in graph.notes[0]


def test_layers_before_a_nested_model():
    vit = build("token")
    inputs = keras.Input((16, 16, 3))
    flipped = keras.layers.Permute((2, 1, 3))(inputs)
    model = keras.Model(inputs, vit(flipped))
    prep, images = vit.config.preprocessing, pixels()
    graph = inference_graph(model, prep, images)
    assert "fold_input" not in graph.rewrites
    expected = np.asarray(model(normalize(images, prep)))
    np.testing.assert_allclose(graph.function(images), expected, rtol=0, atol=1e-4)


def test_other_models_stay_as_they_are():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    images = pixels()
    graph = inference_graph(model, None, images)
    assert graph.rewrites == () and "no plain ViT" in graph.notes[0]
    np.testing.assert_allclose(graph.function(images), model(images), rtol=1e-5)


def test_a_changed_vit_is_noticed():
    """Its configuration tells the class token; the layer takes another one. What the
    graph tells is right."""
    model = build("token")
    model.get_layer("pooling").index = 1
    images = pixels()
    graph = inference_graph(model, model.config.preprocessing, images)
    assert "recognised" in graph.notes[0]
    np.testing.assert_allclose(
        graph.function(images), reference(model, images), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("size", [1, 2, 12, 20, 24, 44, 48, 192, 384, 768, 1280, 1408])
def test_hadamard(size):
    matrix = hadamard(size)
    assert set(np.unique(matrix)) <= {-1.0, 1.0}
    np.testing.assert_array_equal(matrix @ matrix.T, size * np.eye(size))


@pytest.mark.parametrize("size", [7, 36, 384])  # 36 has no construction here
def test_orthogonal(size):
    matrix = orthogonal(size)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)
    np.testing.assert_array_equal(matrix, orthogonal(size))
    assert (hadamard(size) is None) == (size != 384)
