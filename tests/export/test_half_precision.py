"""float16 on GPUs: headroom, what is lost there, and the smaller residual stream."""

import keras
import numpy as np
import pytest

import export
from export.evaluation.half_precision import LARGEST
from export.evaluation.parity import measure_parity
from export.graph.build import inference_graph
from export.resolve import graph_options
from export.targets import TARGETS, GraphOptions
from tests import program
from tests.models import exported, slow_but

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)

CHANNEL = 5
draws = np.random.default_rng(0)
PICTURES = draws.uniform(-1, 1, (4, 8, 8, 3)).astype("float32")


def file_of(layer, path, shape=(8, 8, 3)):
    """A float file of one layer, whose input is its own; and the layer's model."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    model.set_weights([draws.normal(0, 1, w.shape) for w in model.get_weights()])
    images = np.resize(PICTURES, (4, *shape))
    export.to_tflite(model, path, calibration=images)
    return path, model


def test_largest_result_and_sum_of_a_vit(tflite_of, pixels):
    from export.evaluation.interpreter import open_preserving, operators_of

    path, _ = tflite_of()
    found = export.half_precision(path, pixels[:4])
    interpreter, entry, _ = open_preserving(path)
    results, sums = [], []
    for image in pixels[:4]:
        interpreter.set_tensor(entry["index"], image[None])
        interpreter.invoke()
        for op in operators_of(interpreter):
            index = op["outputs"][0]
            result = np.abs(interpreter.get_tensor(index)).astype("float64")
            results.append((result.max(), op["op_name"]))
            if op["op_name"] == "MEAN":
                x = np.abs(interpreter.get_tensor(op["inputs"][0]))
                sums.append(x.sum(-1).max())
    value, operator = max(results)
    # Sums of 32 terms in another order differ by a few float32 roundings.
    assert found.result.value == pytest.approx(value, rel=1e-5)
    assert found.sum.value == pytest.approx(max(sums), rel=1e-5)
    assert (found.result.operator, found.sum.operator) == (operator, "MEAN")
    assert found.sum.name.startswith("encoderblock_")
    assert found.headroom == pytest.approx(LARGEST / max(value, *sums), rel=1e-5)
    assert (found.images, found.source, found.passed) == (4, "images given", True)
    assert 40 < found.sqnr_db < 80  # float16 rounds at 2^-11 of each value: 72 dB
    random = export.half_precision(path)
    assert random.source == "images of random pixels" and random.source in str(random)


@pytest.mark.parametrize(
    ("layer", "operator"),
    [
        (keras.layers.Dense(6), "FULLY_CONNECTED"),
        (keras.layers.Conv2D(4, 3, 2, "same"), "CONV_2D"),
        (keras.layers.DepthwiseConv2D(3), "DEPTHWISE_CONV_2D"),
        (keras.layers.Conv2DTranspose(4, 2, 2), "TRANSPOSE_CONV"),
    ],
)
def test_bounds_of_sums_of_products(layer, operator, tmp_path):
    path, model = file_of(layer, tmp_path / "m.tflite")
    found = export.half_precision(path, PICTURES)
    model.set_weights([np.abs(w) for w in model.get_weights()])
    bound = np.max(model(np.abs(PICTURES)))
    assert found.product.value == pytest.approx(float(bound), rel=1e-5)
    assert found.product.operator == operator
    assert found.product.value > found.result.value  # signs made a difference


def test_products_of_two_activations(tmp_path):
    class Gram(keras.layers.Layer):
        def call(self, x):
            x = keras.ops.reshape(x, (-1, 64, 3))
            return keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))

    path, _ = file_of(Gram(), tmp_path / "m.tflite")
    found = export.half_precision(path, PICTURES)
    x = np.abs(PICTURES).reshape(4, 64, 3)
    bound = np.max(x @ x.transpose(0, 2, 1))
    assert found.product.value == pytest.approx(bound, rel=1e-5)
    assert found.product.operator == "BATCH_MATMUL"


@pytest.mark.parametrize(
    ("layer", "operator"),
    [
        (keras.layers.AveragePooling2D(4), "AVERAGE_POOL_2D"),
        (keras.layers.GlobalAveragePooling2D(), "MEAN"),
    ],
)
def test_sums_in_means(layer, operator, tmp_path):
    path, _ = file_of(layer, tmp_path / "m.tflite")
    found = export.half_precision(path, PICTURES)
    pools = np.abs(PICTURES)
    if operator == "AVERAGE_POOL_2D":
        pools = pools.reshape(4, 2, 4, 2, 4, 3)
        largest = pools.sum((2, 4)).max()
    else:
        largest = pools.sum((1, 2)).max()
    assert found.sum.operator == operator
    assert found.sum.value == pytest.approx(float(largest), rel=1e-5)


def test_loss_in_float16(tmp_path):
    path, model = file_of(keras.layers.Dense(6), tmp_path / "m.tflite")
    kernel, bias = (w.astype("float16").astype("float32") for w in model.get_weights())
    # The pixels are an input, not a result, and keep their precision.
    rounded = (PICTURES @ kernel + bias).astype("float16")
    expected = measure_parity(np.asarray(model(PICTURES)), rounded).sqnr_db
    half = export.half_precision(path, PICTURES)
    assert "largest sum none" in str(half)
    found = half.sqnr_db
    # Where the sum of three products falls between two halves decides little of it.
    assert found == pytest.approx(expected, abs=0.1)


def test_a_sum_beyond_float16_is_refused(tmp_path):
    """The mean is 200, the sum of 1600 pixels inside it is not a half float's."""
    path, _ = file_of(
        keras.layers.GlobalAveragePooling2D(), tmp_path / "m.tflite", (40, 40, 3)
    )
    images = np.full((2, 40, 40, 3), 200.0, "float32")
    found = export.half_precision(path, images)
    assert not found.passed and found.result.value == pytest.approx(200)
    assert found.sum.value == pytest.approx(1600 * 200, rel=1e-5)
    assert np.isnan(found.sqnr_db) and "SQNR none" in str(found)
    report = export.check(path, "gpu", options={"images": images})
    (problem,) = report.unsupported
    assert problem.operator == "MEAN" and "a sum of 3.2e+05 in" in problem.reason
    assert "on 2 images given" in problem.reason and "`calibration`" in problem.fix
    assert "random pixels" in str(export.check(path, "gpu"))


def test_masks_are_minus_infinity_there(tmp_path):
    class Masked(keras.layers.Layer):
        def call(self, x):
            mask = np.where(np.arange(3) < 2, 0.0, -1e9).astype("float32")
            return keras.ops.softmax(x + mask)

    path, _ = file_of(Masked(), tmp_path / "m.tflite")
    found = export.half_precision(path, PICTURES)
    assert found.passed and found.sqnr_db > 60


def planted(size, tokens, **changes):
    """A small ViT with an outlier in one channel of the residual stream."""
    model = exported(num_layers=3, **changes)
    if tokens == "all":
        variable, place = model.get_layer("encoderblock_0").mlp.dense2.bias, (CHANNEL,)
    else:
        variable, place = model.get_layer("class_token").token, (0, 0, CHANNEL)
    values = np.array(variable)
    values[place] += size
    variable.assign(values)
    return model


@pytest.mark.parametrize("tokens", slow_but(("class",), ("all", "class")))
@pytest.mark.parametrize("size", slow_but((1e3,), (1e3, 1e4)))
def test_outliers(size, tokens, pixels, others, tmp_path):
    model, path = planted(size, tokens), tmp_path / "m.tflite"
    plain = export.to_tflite(model, path, calibration=pixels)
    before = export.half_precision(path, others)
    assert not before.passed and before.sum.value > 0.9 * size**2
    assert not [note for note in plain.notes if "float16" in note]
    report = export.to_tflite(model, path, target="gpu", calibration=pixels)
    (note,) = [note for note in report.notes if "residual stream scaled by" in note]
    assert "sums of squares reach" in note and report.parity.passed
    after = export.half_precision(path, others)
    assert after.passed and 2 < after.headroom
    # Its own rounding leaves 50 dB to the same model without outliers.
    assert after.sqnr_db > 40 > before.sqnr_db or np.isnan(before.sqnr_db)


def graph_of(model, images, half):
    options = GraphOptions(half_floats=half)
    return inference_graph(model, model.config.preprocessing, images, options)


def test_a_scaled_stream_computes_the_same(pixels):
    images = pixels[:4].astype("float32")
    model = planted(1e3, "all")
    outputs = []
    for half in (False, True):
        graph = graph_of(model, images, half)
        assert bool([n for n in graph.notes if "scaled by 0.125" in n]) == half
        outputs.append(np.asarray(graph.function(images)))
    np.testing.assert_array_equal(*outputs)  # by a power of two: to the last bit


def test_small_sums_are_left_alone(tflite_of, model, pixels):
    _, report = tflite_of("float32", target="gpu")
    assert not [note for note in report.notes if "squares" in note]
    assert report.plan["graph"]["half_floats"]
    graph = graph_of(model, pixels, True)
    assert not [note for note in graph.notes if "squares" in note]


def test_integers_need_no_half_floats():
    for scheme in TARGETS["gpu"].schemes:
        options = graph_options(scheme, "gpu")
        assert options.half_floats == (scheme in ("float32", "float16"))


def test_a_stream_that_a_norm_writes_cannot_be_scaled(pixels, tmp_path):
    model = planted(1e3, "all", patch_norm=True)
    with pytest.raises(export.UnsupportedOperators, match="beyond float16") as error:
        options = {"target": "gpu", "calibration": pixels}
        export.to_tflite(model, tmp_path / "m.tflite", **options)
    assert "encoderblock_1/norm" in str(error.value)
    assert "target='cpu'" in str(error.value)  # it was exported for the GPU already
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused(tflite_of, pixels):
    path, _ = tflite_of("int8")
    with pytest.raises(ValueError, match="a file that computes in floats"):
        export.half_precision(path, pixels)
    path, _ = tflite_of()
    with pytest.raises(ValueError, match=r"the shape \(N, 32, 32, 3\)"):
        export.half_precision(path, pixels[:, :16])
    with pytest.raises(ValueError, match="'gpu' are images. Received: accelerator"):
        export.check(path, "gpu", options={"accelerator": "x"})


def test_float16_weights(tflite_of, pixels):
    path, _ = tflite_of("float16")
    found = export.half_precision(path, pixels)
    exact = export.half_precision(tflite_of()[0], pixels)
    # The same graph; 1e-3 is twice the rounding of a weight.
    assert found.product.value == pytest.approx(exact.product.value, rel=1e-3)
    assert found.passed and found.sqnr_db > 40


def test_command(tflite_of, pixels, tmp_path):
    path, _ = tflite_of("float32", target="gpu")
    np.save(tmp_path / "pixels.npy", pixels)
    options = ("--target", "gpu", "--data", tmp_path / "pixels.npy")
    done = program.run("vit-export", "check", path, *options)
    assert "float16: headroom" in done.stdout and "8 images given" in done.stdout
    assert done.returncode == 0 or "Vulkan" in done.stderr
