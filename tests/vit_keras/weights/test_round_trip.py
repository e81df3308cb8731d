"""Any model that a layout can express comes back from its file."""

import keras
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vit_keras
from tests.models import weights_of
from tests.vit_keras.weights.compared import TANH, model_of
from vit_keras import ViTConfig


@st.composite
def sizes(draw, **fixed):
    """Sizes that every layout can express."""
    return {
        "image_size": (8, draw(st.sampled_from([8, 12]))),
        "patch_size": (4, draw(st.sampled_from([2, 4]))),
        "num_layers": draw(st.integers(1, 2)),
        "hidden_size": 8,
        "num_heads": draw(st.sampled_from([1, 2, 4])),
        "mlp_dim": draw(st.integers(1, 13)),
        "classes": draw(st.integers(1, 4)),
        "include_top": draw(st.booleans()),
        **fixed,
    }


optional = st.sampled_from


@st.composite
def preprocessings(draw, crops):
    return vit_keras.Preprocessing(
        mean=draw(optional([(0.5, 0.5, 0.5), (0.1, 0.2, 0.3)])),
        std=draw(optional([(0.5, 0.5, 0.5), (0.4, 0.5, 0.6)])),
        interpolation=draw(optional(["nearest", "bilinear", "bicubic", "lanczos"])),
        crop=draw(optional(crops)),
    )


@st.composite
def augreg_configs(draw):
    options = draw(sizes(patch_size=(4, 4)))
    options["pooling"] = draw(optional(["token", "gap"]))
    options["position_prefix"] = draw(st.booleans())
    options["representation_size"] = draw(optional([None, 5]))
    return ViTConfig(**options, **TANH)


@st.composite
def timm_configs(draw):
    flag, options = st.booleans(), draw(sizes())
    pooling = draw(optional(["token", "gap", "map", None]))
    distilled = pooling == "token" and draw(flag)
    if pooling is None:
        options["include_top"] = False
    if pooling in ("gap", None):
        options["class_token"] = draw(flag)
    if not distilled:
        options["position_prefix"] = draw(flag)
        options["fc_norm"] = pooling is not None and draw(flag)
        if pooling != "map":
            options["num_register_tokens"] = draw(optional([0, 2]))
    return ViTConfig(
        **options,
        pooling=pooling,
        distillation_token=distilled,
        mlp_activation=draw(optional(["gelu", "gelu_tanh"])),
        qkv_bias=draw(flag),
        qk_norm=draw(flag),
        pre_norm=draw(flag),
        layer_scale_init_value=draw(optional([None, 0.1])),
        preprocessing=draw(preprocessings(crops=[1.0, 0.9])),
    )


@st.composite
def huggingface_configs(draw):
    flag, kind = st.booleans(), draw(optional(["vit", "deit", "dinov2"]))
    options = draw(sizes())
    if kind == "dinov2":
        options |= {"layer_scale_init_value": 0.1, "include_top": False}
        options["mlp_dim"] = 8 * draw(st.integers(1, 3))
        options["num_register_tokens"] = draw(optional([0, 2]))
    elif not options["include_top"]:
        options["representation_size"] = draw(optional([None, 5]))
    return ViTConfig(
        **options,
        distillation_token=kind == "deit",
        position_prefix=draw(flag),
        mlp_activation=draw(optional(["gelu", "gelu_tanh"])),
        norm_epsilon=draw(optional([1e-6, 1e-12])),
        qkv_bias=draw(flag),
        preprocessing=draw(preprocessings(crops=[1.0])),  # whole pixels there
    )


# No file tells these, or tells them only in another, equal form: the start value of
# LayerScale, who has a position, and the classes of a head that is not there.
UNTOLD = {"layer_scale_init_value", "position_prefix"}


def round_trip(config, path, layout, **needs):
    keras.backend.clear_session(free_memory=False)
    model = model_of(config)
    vit_keras.save_checkpoint(model, path, layout)
    again = vit_keras.from_checkpoint(path, **needs)
    expected, found = config.to_dict(), again.config.to_dict()
    untold = UNTOLD | ({"classes"} if not config.include_top else set())
    untold |= set(needs)
    for field in expected.keys() - untold:
        assert found[field] == expected[field], field
    scaled = config.layer_scale_init_value is not None
    assert (again.config.layer_scale_init_value is not None) == scaled
    return model, again


def assert_same_weights(model, again):
    """Bit for bit; positions and prefix tokens by their sums where they moved."""
    before, after = weights_of(model), weights_of(again)
    places = "posembed_input/embedding"
    moved = (places, "embedding/bias")
    moved += tuple(f"{t}/token" for t in ("class_token", "distillation_token"))
    moved += ("register_tokens/token",)
    assert before.keys() == after.keys()
    for path in before.keys() - set(moved):
        np.testing.assert_array_equal(after[path], before[path], err_msg=path)
    # What the first block reads: every token with its position, and the patches' bias.
    np.testing.assert_allclose(
        sequence_start(again, after),
        sequence_start(model, before),
        rtol=0,
        atol=1e-6,  # a sum or two in float32
    )
    if model.config.position_prefix == again.config.position_prefix:
        if not model.config.pre_norm:
            for path in before.keys() & set(moved):
                np.testing.assert_array_equal(after[path], before[path], err_msg=path)


def sequence_start(model, weights):
    """Prefix tokens and patches of an empty image, with their positions, (T, D)."""
    config, rows = model.config, []
    for token in ("class_token", "distillation_token", "register_tokens"):
        if f"{token}/token" in weights:
            rows.append(weights[f"{token}/token"][0])
    patches = config.grid[0] * config.grid[1]
    bias = np.tile(weights["embedding/bias"], (patches, 1))
    positions = weights["posembed_input/embedding"][0]
    if config.position_prefix:
        return np.concatenate([*rows, bias]) + positions
    return np.concatenate([*rows, bias + positions])


# Creating a file in the same folder again and again is what is wanted.
MANY = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@MANY
@given(config=augreg_configs())
def test_any_augreg_model_comes_back(config, tmp_path):
    path, needs = tmp_path / "model.npz", {"image_size": config.image_size}
    assert_same_weights(*round_trip(config, path, "augreg", **needs))


@MANY
@given(config=timm_configs())
def test_any_timm_model_comes_back(config, tmp_path):
    # timm's settings cannot tell it, and CLIP's is implied by the norm before.
    needs = {"norm_epsilon": config.norm_epsilon}
    assert_same_weights(*round_trip(config, tmp_path / "model", "timm", **needs))


@MANY
@given(config=huggingface_configs())
def test_any_huggingface_model_comes_back(config, tmp_path):
    models = round_trip(config, tmp_path / "model", "huggingface")
    assert_same_weights(*models)
