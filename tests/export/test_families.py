"""Export of rotary positions, gates, post-norms, attention pooling and unit norms."""

import numpy as np
import pytest

import export
import vit_keras
from export.flatbuffer.operators import read_operators
from export.graph.found_vit import vit_by_layers
from export.graph.rewrites import REWRITES
from export.graph.write_weights import build_vit
from tests.export.families import FAMILIES, family
from tests.models import randomise, run, slow_but
from vit_keras.preprocessing import normalize

FLOATS = {"FLOAT32", "FLOAT16"}
# Without an extra, the target is checked by a list, which proves less.
COMPILED = ["ethos_u55", "ethos_u85", "qualcomm", "gpu"]


@pytest.fixture(scope="module")
def pixels():
    """Noise on another colour in each image, so that outputs differ."""
    draws = np.random.default_rng(0)
    colours = draws.uniform(0, 255, (16, 1, 1, 3))
    images = colours + draws.normal(0, 60, (16, 32, 32, 3))
    return np.clip(images, 0, 255).astype("uint8")


@pytest.fixture(scope="module")
def random_model(request):
    """A random model of a family, with its name."""
    return request.param, randomise(vit_keras.create_model(family(request.param)), 3)


def expected(model, pixels):
    return run(model, normalize(pixels, model.config.preprocessing))


def written(model, tmp_path, pixels, **options):
    """The file, and what LiteRT computes with it in float32."""
    path = tmp_path / "m.tflite"
    report = export.to_tflite(
        model, path, calibration=pixels, enforce_parity=False, **options
    )
    return path, report, export.load(path)(pixels)


@pytest.mark.parametrize(
    "random_model",
    slow_but(("dinov3", "pe", "siglip", "residual_post_norm", "max"), FAMILIES),
    indirect=True,
)
def test_float_file_is_the_model(random_model, pixels, tmp_path):
    _, model = random_model
    _, report, outputs = written(model, tmp_path, pixels, scheme="float32")
    # Of the values' range; rewrites change the order of float32 sums.
    reference = expected(model, pixels)
    error = np.abs(outputs - reference).max() / np.ptp(reference)
    assert error <= 1e-4
    assert not any("converted as it is" in note for note in report.notes)


@pytest.mark.parametrize(
    "random_model",
    # Compilers have dinov3 and siglip in int8, `test_attention_in_int16` has pe.
    slow_but(("eva02",), FAMILIES),
    indirect=True,
)
def test_integer_file_has_no_float_inside(random_model, pixels, tmp_path):
    name, model = random_model
    path, _, outputs = written(model, tmp_path, pixels, scheme="int8")
    ends = {"QUANTIZE", "DEQUANTIZE"}
    inside = [op for op in read_operators(path) if op.name not in ends]
    dtypes = {dtype for op in inside for dtype in (*op.inputs, *op.outputs)}
    assert not dtypes & FLOATS, name
    reference = expected(model, pixels)
    noise = np.sqrt(np.mean((outputs - reference) ** 2) / reference.var())
    assert noise < 0.2, name  # random weights: a swapped head or sign gives 1


@pytest.mark.parametrize("random_model", slow_but(("dinov3",), FAMILIES), indirect=True)
@pytest.mark.parametrize("target", slow_but(("ethos_u85",), COMPILED))
def test_compilers_take_the_file_whole(target, random_model, pixels, tmp_path):
    _, model = random_model
    scheme = "float32" if target == "gpu" else "int8"
    options = {"scheme": scheme, "target": target}
    path, _, _ = written(model, tmp_path, pixels, **options)  # refused otherwise
    try:
        result = export.check(path, target)
    except export.MissingDependency as error:
        pytest.skip(str(error))
    assert not result.unsupported


@pytest.mark.parametrize("name", slow_but(("pe",), ("pe", "dinov3")))
def test_attention_in_int16(name, pixels, tmp_path):
    model = randomise(vit_keras.create_model(family(name)), 3)
    path, _, _ = written(model, tmp_path, pixels, scheme="int8_attention16")
    products = [op for op in read_operators(path) if op.name == "BATCH_MATMUL"]
    assert products and all(set(op.inputs) == {"INT16"} for op in products)


@pytest.mark.parametrize("random_model", FAMILIES, indirect=True)
def test_rewritten_weights_become_the_model_again(random_model, pixels):
    """The inverse that quantisation-aware training needs."""
    name, model = random_model
    weights = vit_by_layers(model, None).weights
    for rewrite in REWRITES.values():
        rewrite(weights)
    images = normalize(pixels[:4], model.config.preprocessing)
    # Of random weights in float32, whose order of sums is another.
    np.testing.assert_allclose(
        run(build_vit(weights), images), run(model, images), rtol=0, atol=1e-3
    )


def test_rewrites_that_turned_keys_do_not_allow():
    model = vit_keras.create_model(family("dinov3"))
    weights = vit_by_layers(randomise(model), None).weights
    done = {name for name, rewrite in REWRITES.items() if rewrite(weights)}
    assert {"rotate_stream", "centre_writers", "rotate_heads"} <= done
    assert "drop_key_bias" not in done


def test_constant_query_is_one_layer(pixels, tmp_path):
    """The keys of attention pooling are multiplied by its probe beforehand."""
    model = randomise(vit_keras.create_model(family("siglip")), 3)
    weights = vit_by_layers(model, None).weights
    for rewrite in REWRITES.values():
        rewrite(weights)
    _, attention, *_ = weights.pool
    assert attention.query is None and attention.key is None
    assert attention.scores.kernel.shape == (32, 2)


@pytest.mark.parametrize("random_model", slow_but(("clip",), FAMILIES), indirect=True)
def test_named_outputs_are_those_of_the_model(random_model, pixels, tmp_path):
    """A file of which one output is below the threshold of its scheme is refused."""
    _, model = random_model
    path, options = tmp_path / "m.tflite", {"calibration": pixels, "outputs": "all"}
    report = export.to_tflite(model, path, scheme="float32", **options)
    assert report.parity.sqnr_db > 80
    assert len(export.load(path).all(pixels)) >= 2


@pytest.mark.parametrize("name", ["dinov3", "eva02", "residual_post_norm", "pe"])
def test_shrinking_refuses_what_it_does_not_know(name, pixels):
    model = vit_keras.create_model(family(name))
    with pytest.raises(ValueError, match="shrink.*(mlp_gated|post_norm|pool_heads)"):
        export.shrink(model, pixels, macs_ratio=1.3)


def test_the_twin_refuses_what_it_does_not_know():
    model = vit_keras.create_model(family("max"))
    with pytest.raises(ValueError, match="rotary='rope_vit', pooling='max'"):
        export.to_tf_keras(model)
