"""Plain Vision Transformers of several makers, read from their traced graphs."""

import copy
import dataclasses

import keras
import numpy as np
import pytest

from export.graph.inference_layer import InferenceViT
from export.graph.recognition.function import function_of
from export.graph.recognition.recognise import recognise
from export.graph.recognition.traced_graph import Unrecognised
from export.graph.rewrites import ONLY_IF_THERE, REWRITES
from tests.export.recognition import builders
from tests.export.recognition.proof import prove
from tests.models import slow_but, tiny
from vit_keras import create_model

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="converts in this process"
)
EQUAL = 1e-5  # of the outputs' range, in float32


@dataclasses.dataclass(frozen=True)
class Expected:
    """What is found in a model: poolings, tokens before the patches, what is around,
    and what its configuration does not say."""

    pooling: str | None
    prefix: int = 0
    front: bool = False
    tail: bool = False
    differences: tuple[str, ...] = ()
    layout: str = "NHWC"
    left_out: tuple[str, ...] = ()


def own(**changes):
    sizes = {"image_size": builders.SIZE, "hidden_size": 32, "num_layers": 1}
    return create_model(tiny(**{**sizes, **changes}))


def own_registers():
    return own(
        pooling="gap",
        mlp_activation="gelu_tanh",
        layer_scale_init_value=0.1,
        num_register_tokens=2,
    )


def own_pre_norm():
    return own(pooling="gap", fc_norm=True, pre_norm=True, class_token=True)


def own_patch_norm():
    return own(qk_norm=True, patch_norm=True)


def own_map():
    return own(pooling="map", qkv_bias=False)


def own_distilled():
    return own(distillation_token=True, representation_size=12, activation="softmax")


STREAM = ("centre_writers", "rotate_stream")
MODELS = [
    ((builders.keras_io,), Expected("gap", tail=True)),
    (
        (builders.tutorial,),
        Expected(
            None,
            tail=True,
            left_out=STREAM,
        ),
    ),
    (
        (builders.class_token,),
        Expected("token", 1),
    ),
    ((builders.all_tokens_pooled,), Expected(None, 1, tail=True)),
    (
        (builders.without_last_norm,),
        Expected(
            None,
            tail=True,
            differences=("no last norm",),
            left_out=STREAM,
        ),
    ),
    (
        (builders.many_activations,),
        Expected(
            "gap",
            tail=True,
            differences=("MLP activation gelu_tanh, quick_gelu",),
        ),
    ),
    (
        (builders.timm_like,),
        Expected(
            "gap",
            differences=("norms of several epsilons",),
            left_out=("drop_key_bias",),
        ),
    ),
    ((builders.channels_first,), Expected("token", 1, layout="NCHW")),
    (
        (builders.rms_normed,),
        Expected("gap", differences=("RMS norm",), left_out=("centre_writers",)),
    ),
    ((builders.square,), Expected(None)),
    ((builders.hybrid,), Expected("gap", front=True)),
    ((own_registers,), Expected("gap", 2)),
    ((own_pre_norm,), Expected("gap", 1, left_out=STREAM)),
    (
        (own_patch_norm,),
        Expected("token", 1, front=True, layout="tokens", left_out=("drop_key_bias",)),
    ),
    ((own_map,), Expected("map")),
    ((own_distilled,), Expected(None, 2, tail=True)),
    ((builders.hub, "vit"), Expected("token", 1)),
    ((builders.hub, "deit"), Expected("token", 2)),
    ((builders.hub, "dinov2"), Expected(None, 4)),
    ((builders.hub, "siglip"), Expected("map")),
    (
        (builders.hub, "clip"),
        Expected(None, 1, left_out=STREAM),
    ),
]
# `test_to_vit` reads them, too.
LATER = [(builders.hub, kind) for kind in ("vit", "deit", "dinov2", "siglip", "clip")]
# One option each, which other rows have together.
LATER += [(own_registers,), (own_pre_norm,), (own_distilled,), (builders.square,)]
MODELS = [
    pytest.param(
        *(model, expected),
        id="_".join(getattr(part, "__name__", part) for part in model),
        marks=[pytest.mark.slow] if model in LATER else [],
    )
    for model, expected in MODELS
]


def close(function, case, tolerance=EQUAL):
    """One by one, and all at once."""
    apart = np.concatenate([np.asarray(function(x[None])) for x in case.images])
    together = np.asarray(function(case.images))
    limit = tolerance * np.ptp(case.outputs)
    np.testing.assert_allclose(apart, case.outputs, rtol=0, atol=limit)
    np.testing.assert_allclose(together, case.outputs, rtol=0, atol=limit)


@pytest.mark.parametrize(("model", "expected"), MODELS)
def test_recognised(model, expected, traced):
    if model[0] is builders.hub:
        pytest.importorskip("keras_hub")
    case = traced(*model)
    found = recognise(case.graph)
    config = found.weights.config
    assert (
        Expected(
            pooling=config.pooling,
            prefix=config.num_prefix_tokens,
            front=found.front is not None,
            tail=found.tail is not None,
            differences=found.differences,
            layout=found.layout,
            left_out=expected.left_out,
        )
        == expected
    )
    assert found.config_exact == (not expected.differences)
    function = function_of(case.graph, found, InferenceViT(found.weights))
    close(function, case)
    assert prove(case.graph, function) < EQUAL
    weights = copy.deepcopy(found.weights)
    done = [name for name, rewrite in REWRITES.items() if rewrite(weights)]
    left_out = set(REWRITES) - set(done) - set(ONLY_IF_THERE)
    assert left_out == set(expected.left_out)
    close(function_of(case.graph, found, InferenceViT(weights)), case)


def test_weights_are_those_of_the_model(traced):
    """Not only the same function: the same numbers, but for what commutes."""
    case = traced(builders.class_token)
    found = recognise(case.graph).weights
    layers = {layer.name: layer for layer in case.model.layers}
    kernel = np.asarray(layers["patches"].kernel).reshape(-1, builders.WIDTH)
    np.testing.assert_allclose(found.embedding.kernel, kernel, atol=1e-6)
    norms = [
        layer
        for layer in case.model.layers
        if isinstance(layer, keras.layers.LayerNormalization)
    ]
    read = [norm for b in found.blocks for norm in (b.norm1, b.norm2)] + [found.norm]
    for layer, norm in zip(norms, read, strict=True):
        np.testing.assert_allclose(norm.gamma, np.asarray(layer.gamma), rtol=1e-6)
        np.testing.assert_allclose(norm.beta, np.asarray(layer.beta), atol=1e-6)
        np.testing.assert_allclose(norm.epsilon, layer.epsilon, rtol=1e-4)
    assert np.abs(found.positions.mean(0)).max() < 1e-12  # it is in the bias


def test_activations(traced):
    blocks = recognise(traced(builders.many_activations).graph).weights.blocks
    assert [b.activation for b in blocks] == ["tanh", "quick_gelu", "gelu_tanh"]
    assert all(b.out_activation is None for b in blocks)
    block = recognise(traced(builders.tutorial).graph).weights.blocks[0]
    assert block.activation == block.out_activation == "gelu"


def test_input_scale(traced):
    scale, offset = recognise(traced(builders.tutorial).graph).input_scale
    np.testing.assert_allclose(scale, [1 / 60, 1 / 55, 1 / 50], rtol=1e-6)
    np.testing.assert_allclose(offset, [-2, -115 / 55, -2], rtol=1e-6)
    # Rescaling is folded into the convolution by the converter: nothing to see.
    assert recognise(traced(builders.keras_io).graph).input_scale is None


REFUSED = {
    "bias": "relative position bias in block 0",
    "rotary": "rotary positions in the queries or keys in block 0",
    "causal": "an attention mask in block 0",
    "capped": "scores that are capped in block 0",
    "talking": "attention weights that are changed behind the softmax in block 0",
    "relu": "attention without softmax in block 0",
    "parallel": "attention and MLP in parallel in block 0",
    "post_norm": r"no norm in front of the attention \(post-norm\) in block 0",
    "sandwich": r"a norm behind attention or MLP \(sandwich norm\) in block 0",
    "convolution": "a convolution in the MLP in block 0",
    "gated": r"a gated MLP \(SwiGLU\) in block 0",
    "overlap": "tokens that are not one patch of the image each",
    "token_last": "a class or register token that is not the first one",
    "levels": "attention behind 1 plain blocks",
    "foreign": "in block 1: attention behind 1 plain blocks",
}


# Each is a pattern of its own; `make test` takes those that users meet.
OFTEN = ("bias", "rotary", "causal", "post_norm", "gated", "overlap", "levels")


@pytest.mark.parametrize("kind", slow_but(OFTEN, REFUSED))
def test_refused(kind, traced):
    with pytest.raises(Unrecognised, match=f"{REFUSED[kind]}$"):
        recognise(traced(builders.not_plain, kind).graph)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (builders.without_attention, "no attention"),
        (builders.without_mlp, "no MLP behind attention"),
    ],
)
def test_no_vit(build, reason, traced):
    with pytest.raises(Unrecognised, match=f"^{reason}$"):
        recognise(traced(build).graph)


def test_another_function_is_not_proven(traced):
    case = traced(builders.class_token)
    found = recognise(case.graph)
    found.weights.blocks[0].attention.scale *= 1.01
    function = function_of(case.graph, found, InferenceViT(found.weights))
    with pytest.raises(Unrecognised, match="differs by .* of the output range"):
        prove(case.graph, function)
