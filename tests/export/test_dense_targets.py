"""Models with outputs at each pixel on devices, by compilers and runtimes of those."""

import itertools

import keras
import numpy as np
import pytest

import export
from export.flatbuffer.operators import read_operators
from export.graph.resizes import resizes_for
from export.targets import GraphOptions
from tests.export.dense_models import SIZE, dense, pictures
from tests.models import slow_but
from vit_keras.layers import Resize

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)

PICTURES = pictures()
ETHOS = ("ethos_u55", "ethos_u65", "ethos_u85")


@pytest.fixture(scope="module")
def models():
    sizes = {"taps": 2, "num_layers": 2}
    return {name: dense(decoder=name, **sizes) for name in ("linear", "upconv")}


@pytest.mark.parametrize(
    ("target", "size", "decoder"),
    slow_but(
        [("ethos_u55", "image", "upconv")],
        itertools.product(ETHOS, ["decoder", "image"], ["linear", "upconv"]),
    ),
)
def test_vela_leaves_nothing_to_the_cpu(target, size, decoder, models, tmp_path):
    """`to_tflite` raises if Vela, the target's compiler, refuses an operator."""
    path = tmp_path / "m.tflite"
    options = {"scheme": "int8", "calibration": PICTURES, "output_size": size}
    report = export.to_tflite(models[decoder], path, target=target, **options)
    assert "ethos-u-vela" in report.checked_by and report.facts["estimate_ms"] > 0
    names = [operator.name for operator in read_operators(path)]
    # By 8, or by 2 behind the two steps of "upconv": both powers of two.
    one = size == "image" and target == "ethos_u85"
    assert names.count("RESIZE_BILINEAR") == int(one)
    height, width = (4, 6) if decoder == "linear" else (16, 24)
    height, width = SIZE if size == "image" else (height, width)
    assert f"({', '.join(map(str, (1, height, width, 5)))})" in report.output


def test_ethos_u55_gets_small_maps_if_nothing_is_said(models, tmp_path):
    options = {"scheme": "int8", "calibration": PICTURES, "target": "ethos_u55"}
    report = export.to_tflite(models["linear"], tmp_path / "m.tflite", **options)
    assert report.output == "int8 (1, 4, 6, 5)" and "decoder" in report.notes[0]
    assert (report.plan or {})["output_size"] == "decoder"


@pytest.mark.parametrize(
    ("target", "scheme"),
    [
        ("openvino", "int8"),
        # `test_targets.py` has that runtime, `test_dense.py` the operators.
        pytest.param("micro", "int8", marks=pytest.mark.slow),
        pytest.param("cpu", "int8", marks=pytest.mark.slow),
        pytest.param("npu", "int8", marks=pytest.mark.slow),
        pytest.param("mediatek", "int8_attention16", marks=pytest.mark.slow),
        pytest.param("web", "float32", marks=pytest.mark.slow),  # also in `web`
    ],
)
def test_other_targets(target, scheme, models, tmp_path):
    options = {"scheme": scheme, "calibration": PICTURES, "target": target}
    try:
        report = export.to_tflite(models["upconv"], tmp_path / "m.tflite", **options)
    except export.MissingDependency as error:
        pytest.skip(str(error))
    assert str(SIZE)[1:-1] in report.output
    assert (report.parity.agreement or 0) > 0.9


@pytest.mark.parametrize("target", slow_but(["ethos_u55"], ETHOS))
def test_classes_on_an_ethos(target, models, tmp_path):
    """Vela leaves ARG_MAX to no CPU, or `to_tflite` would raise."""
    path = tmp_path / "m.tflite"
    options = {"scheme": "int8", "calibration": PICTURES, "decode": "classes"}
    report = export.to_tflite(models["linear"], path, target=target, **options)
    assert "ARG_MAX" in [operator.name for operator in read_operators(path)]
    assert "int32" in report.output and report.facts["estimate_ms"] > 0


@pytest.mark.parametrize(
    ("factors", "allowed", "products"),
    [
        ((14, 14), "any", False),
        ((8, 8), "none", True),
        ((8, 8), "powers_of_two", False),
        ((8, 4), "powers_of_two", True),
        ((14, 14), "powers_of_two", True),
        ((1.5, 1.5), "powers_of_two", True),
    ],
)
def test_form_of_a_resize(factors, allowed, products):
    size = tuple(round(n * factor) for n, factor in zip((4, 6), factors, strict=True))
    inputs = keras.Input((4, 6, 3))
    layer, corners = Resize(size), Resize(size, align_corners=True)
    model = keras.Model(inputs, [layer(inputs), corners(inputs)])
    values = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype("float32")
    before = [np.asarray(x) for x in model(values)]
    with resizes_for(model, allowed):
        assert (layer.products, corners.products) == (products, True)
        for expected, found in zip(before, model(values), strict=True):
            # The resize computes its places in float32: 1e-6 of a pixel at 100.
            np.testing.assert_allclose(found, expected, atol=2e-5)
    assert not layer.products and corners.products


def test_unknown_form_of_a_resize():
    with pytest.raises(ValueError, match="`resizes` must be one of any, powers_of_two"):
        GraphOptions(resizes="some")
