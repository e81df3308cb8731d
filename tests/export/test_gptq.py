"""Weights rounded so that errors cancel: the arithmetic, and what the file holds."""

import keras
import numpy as np
import pytest

import export
from export.flatbuffer.objects import unpack
from export.graph.build import inference_graph
from export.quantization import gptq, post_training
from export.quantization.gptq import GRIDS, Grid
from export.resolve import resolve
from export.targets import GraphOptions
from export.tflite.converter import convert
from tests.models import exported
from vit_keras import Preprocessing

INT8, INT4 = GRIDS["int8"], GRIDS["int4 in blocks of 32"]


def correlated(rows, inputs, seed=0):
    """Inputs that go together, as a ViT's do."""
    draws = np.random.default_rng(seed)
    mix = draws.normal(0, 1, (inputs, inputs)) / np.arange(1, inputs + 1)
    return draws.normal(0, 1, (rows, inputs)) @ mix.T


def problem(inputs=64, outputs=40):
    x = correlated(1000, inputs)
    kernel = np.random.default_rng(1).normal(0, 0.1, (inputs, outputs))
    gram = gptq.second_moment(x)
    return x, kernel, gram, gptq.upper_factor(gram)


def nearest(kernel, grid):
    """Every block by its greatest weight."""
    blocks = kernel.reshape(-1, grid.block or len(kernel), kernel.shape[1])
    scale = grid.scale(np.abs(blocks).max(1))[:, None]
    return (np.round(blocks / scale) * scale).reshape(kernel.shape)


@pytest.mark.parametrize("grid", [INT8, INT4], ids=["int8", "int4"])
def test_errors_of_the_output_cancel(grid):
    x, kernel, gram, factor = problem()
    assert np.allclose(factor.T @ factor @ gram, np.eye(len(gram)))
    assert np.allclose(factor, np.triu(factor))
    found = gptq.round_kernel(kernel, gram, factor, grid)
    plain = nearest(kernel, grid)
    errors = [np.mean((x @ (k - kernel)) ** 2) for k in (found, plain)]
    assert errors[0] < 0.3 * errors[1]
    # The weights themselves are no nearer: that is not what it is for.
    assert np.mean((found - kernel) ** 2) > np.mean((plain - kernel) ** 2)


@pytest.mark.parametrize("grid", [INT8, INT4], ids=["int8", "int4"])
def test_unrelated_inputs_are_rounded_to_the_nearest(grid):
    _, kernel, _, _ = problem()
    eye = np.eye(len(kernel))
    found = gptq.round_kernel(kernel, eye, eye, grid)
    rounded_twice = gptq.round_kernel(found, eye, eye, grid)
    np.testing.assert_array_equal(rounded_twice, found)
    assert np.mean((found - kernel) ** 2) <= np.mean(
        (nearest(kernel, grid) - kernel) ** 2
    )


def by_the_definition(kernel, gram, grid):
    """Optimal Brain Surgeon, weight after weight, with the inverse of what is left."""
    left, result = kernel.copy(), np.zeros_like(kernel)
    for i in range(len(kernel)):
        if i % (grid.block or len(kernel)) == 0:
            block = left[i : i + (grid.block or len(kernel))]
            squares = np.diag(gram)[i : i + len(block)]
            scale = gptq._best_scale(block, squares, grid)
            peak = i + np.abs(block).argmax(0)
            sign = np.sign(left[peak, np.arange(kernel.shape[1])])
        levels = np.clip(np.round(left[i] / scale), -grid.last, grid.last)
        result[i] = np.where(peak == i, sign * grid.last, levels) * scale
        inverse = np.linalg.inv(gram[i:, i:])
        left[i:] -= np.outer(inverse[:, 0] / inverse[0, 0], left[i] - result[i])
    return result


@pytest.mark.parametrize("grid", [INT8, INT4], ids=["int8", "int4"])
def test_same_as_the_definition(grid):
    _, kernel, gram, factor = problem(96, 20)
    found = gptq.round_kernel(kernel, gram, factor, grid)
    np.testing.assert_allclose(found, by_the_definition(kernel, gram, grid), atol=1e-12)


@pytest.mark.parametrize("grid", [INT8, INT4], ids=["int8", "int4"])
def test_zeros_and_dead_inputs(grid):
    x = correlated(200, 64)
    x[:, 5] = 0
    kernel = np.random.default_rng(1).normal(0, 0.1, (64, 8))
    kernel[:, 3] = 0
    gram = gptq.second_moment(x)
    found = gptq.round_kernel(kernel, gram, gptq.upper_factor(gram), grid)
    assert np.isfinite(found).all()
    assert not found[:, 3].any()
    gram = gptq.second_moment(np.zeros((10, 64)))
    assert np.isfinite(gptq.upper_factor(gram)).all()


# ---- in the file ----


def stored(content):
    """{name: (integers, float values)} of the weights of a file, by the schema."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(content)
    (graph,) = model.subgraphs
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if k[0] != "_"}
    found = {}
    for op in graph.operators:
        kind = names[model.operatorCodes[op.opcodeIndex].builtinCode]
        if kind not in ("FULLY_CONNECTED", "CONV_2D"):
            continue
        tensor = graph.tensors[op.inputs[1]]
        data = np.array(model.buffers[tensor.buffer].data, "uint8")
        shape = tuple(tensor.shape)
        if tensor.type == schema.TensorType.FLOAT32:
            values = data.view("float32").reshape(shape)
            found[tensor.name] = None, values
            continue
        if tensor.type == schema.TensorType.INT4:
            nibbles = np.stack([data & 15, data >> 4], -1).ravel()[: np.prod(shape)]
            integers = ((nibbles.astype("int8") ^ 8) - 8).reshape(shape)
            scales = graph.tensors[tensor.quantization.details.scales]
            raw = np.array(model.buffers[scales.buffer].data, "uint8").view("float16")
            scale = raw.astype("float32").reshape(shape[0], -1)
            scale = np.repeat(scale, shape[1] // scale.shape[1], 1)
        else:
            integers = data.view("int8").reshape(shape)
            scale = np.array(tensor.quantization.scale, "float32")
            scale = scale.reshape(-1, *[1] * (len(shape) - 1))
        found[tensor.name] = integers, integers * scale
    return found


@pytest.mark.parametrize(
    ("grid", "recipe", "variant", "projection"),
    [
        (INT8, "dynamic_wi8_afp32", {}, "convolution"),
        (INT8, "dynamic_wi8_afp32", {}, "fully_connected"),
        (INT4, "dynamic_wi4b32_afp32", {}, "convolution"),
        pytest.param(
            *(INT4, "dynamic_wi4b32_afp32", {"pooling": "map"}, "convolution"),
            marks=pytest.mark.slow,
        ),
        (INT4, "dynamic_wi4b32_afp32", {"patch_norm": True}, "convolution"),
    ],
    ids=["int8", "int8 patches by FULLY_CONNECTED", "int4", "map", "patch norm"],
)
def test_file_holds_what_was_rounded(
    grid, recipe, variant, projection, pixels, tmp_path
):
    model, path = exported(**variant), tmp_path / "m.tflite"
    options = GraphOptions(patch_projection=projection)
    graph = inference_graph(model, Preprocessing(), pixels, options)
    before = [np.array(v) for v in graph.layer.variables]
    assert gptq.round_weights(graph, pixels, grid) == 48
    after = [np.array(v) for v in graph.layer.variables]
    changed = sum(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    convert(graph.function, model, path, resolve(input_dtype="float32"))
    floats = stored(path.read_bytes())
    content = post_training.quantize_weights(path, recipe)
    rounded = {k: v for k, v in stored(content).items() if v[0] is not None}
    same = [
        name
        for name, (_, values) in rounded.items()
        # Equal but for the last bit of a scale of float32.
        if np.allclose(values, floats[name][1], rtol=2e-7, atol=0)
    ]
    if grid.layers == "patches":
        assert changed == len(same) == 1
        return
    # One more in the file where the patches are projected by a linear layer, into which
    # a norm is folded.
    assert len(same) == changed
    assert len(rounded) == len(same) + ("patch_norm" in variant)


def test_weights_in_int4_lose_less_with_images(model, pixels, tmp_path):
    notes, found = [], []
    for images in (None, pixels[:32]):
        path = tmp_path / "m.tflite"
        report = export.to_tflite(
            *(model, path),
            **{"scheme": "dynamic_int4", "calibration": images},
            enforce_parity=False,
        )
        notes.append(report.notes[-1])
        found.append(export.verify(model, path, pixels[32:]).sqnr_db)
    assert notes[0].endswith("with `calibration` they would lose less")
    assert notes[1] == "weights (linear) rounded by GPTQ on 32 images"
    assert found[1] > found[0] + 3


def test_zeros_of_pruning_stay(pixels):
    model = exported()
    kernel = model.get_layer("encoderblock_0").mlp.dense1.kernel
    values = np.array(kernel)
    values[:, ::2] = 0
    kernel.assign(values)
    graph = inference_graph(model, Preprocessing(), pixels)
    assert graph.layer is None


def test_failure_leaves_the_layer_as_it_was(model, pixels, monkeypatch):
    def broken(*_):
        raise MemoryError

    graph = inference_graph(model, Preprocessing(), pixels)
    monkeypatch.setattr(gptq, "round_kernel", broken)
    with pytest.raises(MemoryError):
        gptq.round_weights(graph, pixels, INT4)
    assert graph.layer.visit is None and graph.layer.seen is None
    assert keras.ops.shape(graph.function(pixels[:1].astype("float32"))) == (1, 10)


def test_scales_are_those_of_the_quantiser():
    from litert_quantizer import qtyping
    from litert_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor

    peaks = np.random.default_rng(0).lognormal(-3, 2, 1000).astype("float32")
    kinds = {
        INT8: ("CHANNELWISE", 8),
        INT4: ("BLOCKWISE_32", 4),
        Grid(7, None, "", 1): ("CHANNELWISE", 4),
    }
    for grid, (granularity, bits) in kinds.items():
        _, scale = uniform_quantize_tensor.tensor_zp_scale_from_min_max(
            -peaks, peaks, bits, True, qtyping.QuantGranularity(granularity)
        )
        np.testing.assert_array_equal(grid.scale(peaks), scale)
