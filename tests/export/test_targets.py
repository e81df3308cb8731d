"""Every target's own compiler or runtime, on a small file; what each refuses."""

import collections

import keras
import numpy as np
import pytest

import export
from export.evaluation.check import check_all
from export.flatbuffer.op_versions import VERSIONS, needed, version_key
from export.flatbuffer.operators import minimum_runtime, read_operators
from export.targets import TARGETS
from tests.models import exported, slow_but

SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """An int8 file of one stock Keras block, by TensorFlow's converter."""
    import tensorflow as tf

    x = inputs = keras.Input((8, 8, 3), batch_size=1)
    x = keras.layers.Conv2D(16, 4, 4)(x)
    x = keras.layers.Reshape((4, 16))(x)
    y = keras.layers.LayerNormalization()(x)
    y = keras.layers.MultiHeadAttention(2, 8)(y, y)
    y = keras.layers.Dense(16, activation="gelu")(keras.layers.Add()([x, y]))
    x = keras.layers.Dense(3)(keras.layers.Flatten()(y))
    model = keras.Model(inputs, x)
    spec = tf.TensorSpec((1, 8, 8, 3), tf.float32)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", lambda x: model(x), input_signature=[spec])
    folder = tmp_path_factory.mktemp("stock")
    archive.write_out(str(folder / "saved"), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    draws = np.random.default_rng(0)
    images = draws.normal(size=(8, 1, 8, 8, 3)).astype("float32")
    converter.representative_dataset = lambda: ([image] for image in images)
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (folder / "stock.tflite").write_bytes(converter.convert())
    return folder / "stock.tflite"


def judged(path, name, **options):
    """The report of a target whose tool is here."""
    try:
        return export.check(path, name, **options)
    except export.MissingDependency as error:
        pytest.skip(str(error))


# What is exported for a target is taken by it, and what its tool then measures.
FACTS = {
    "cpu": ("partitions",),
    "ethos_u55": ("estimate_ms", "sram_kb"),
    "ethos_u85": ("estimate_ms", "sram_kb"),
    "gpu": ("fully accelerated", "difference (LSB)"),
    "mediatek": ("notes",),
    "micro": ("arena_bytes", "difference (LSB)"),
    "openvino": ("difference (LSB)", "NPU plugin"),
    "web": (),
}


# `test_dense_targets` has OpenVINO, too, and MediaTek is a list.
@pytest.mark.parametrize("name", slow_but(set(FACTS) - {"mediatek", "openvino"}, FACTS))
def test_targets_take_what_is_made_for_them(name, tflite_of):
    path, report = tflite_of("int8", target=name)
    if unproven := [note for note in report.notes if "not proven" in note]:
        pytest.skip(unproven[0])
    assert report.checked_by
    assert all(report.facts[key] not in ("", None) for key in FACTS[name])
    if name == "cpu":  # all but the conversion of the pixels in one piece
        assert report.facts["partitions"] == 1
        assert set(report.facts["outside XNNPACK"]) <= {"QUANTIZE", "CAST"}
    if name == "openvino":
        total = len(read_operators(path))
        expected = f"{total} of {total} operators, 1 partitions"
        assert report.facts["NPU plugin"] == expected


def test_int8_on_the_cpu_computes_by_row(model, tflite_of):
    """Of the products of attention, the scores alone are in int8, as XNNPACK takes
    them; linear layers have weights in int8 and take floats."""
    path, report = tflite_of("int8", target="cpu")
    kinds = collections.Counter((op.name, op.inputs[:2]) for op in read_operators(path))
    depth = model.config.num_layers
    assert kinds["BATCH_MATMUL", ("INT8", "INT8")] == depth
    assert kinds["BATCH_MATMUL", ("FLOAT32", "FLOAT32")] == depth
    assert kinds["CONV_2D", ("FLOAT32", "INT8")] == 1
    assert kinds["FULLY_CONNECTED", ("FLOAT32", "INT8")] == 6 * depth + 1
    assert report.input == "uint8 (1, 32, 32, 3)"
    assert report.facts["partitions"] == 1
    assert not report.facts["outside XNNPACK"]
    # Only rows' own ranges and what is left in float tell them apart.
    _, plain = tflite_of("int8")
    assert report.parity.sqnr_db > plain.parity.sqnr_db + 3


def test_lists(tflite_of):
    path, _ = tflite_of("int8", target="npu")
    report = export.check(path, "google_tensor")
    assert report.passed and "by list" in report.tool
    # No product of two activations: no ViT runs there.
    refused = {
        refusal.operator for refusal in export.check(path, "edge_tpu").unsupported
    }
    assert {"BATCH_MATMUL", "GELU"} <= refused


def test_heads_apart_need_less_memory(tmp_path):
    model = exported(num_heads=4, image_size=64, hidden_size=32)
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), "uint8")
    options = {"scheme": "int8", "target": "ethos_u55", "calibration": images}
    kilobytes = []
    for apart in (False, True):
        path = tmp_path / f"{apart}.tflite"
        export.to_tflite(model, path, heads_apart=apart, **options)
        kilobytes.append(judged(path, "ethos_u55").facts["sram_kb"])
    assert kilobytes[1] < 0.7 * kilobytes[0]


def test_stock_keras_is_refused_with_reason_and_cure(stock):
    report = judged(stock, "ethos_u55")
    refused = {refusal.operator: refusal for refusal in report.unsupported}
    assert set(refused) == {"NEG", "QUANTIZE", "DEQUANTIZE"}
    assert "scheme='int8' and target='ethos_u55'" in refused["NEG"].fix
    assert not export.check(stock, "npu").passed
    micro = judged(stock, "micro")
    assert [r.operator for r in micro.unsupported] == ["GELU"]
    assert "target='micro'" in str(micro)


@pytest.mark.parametrize("name", ["micro", "web", "gpu"])
def test_a_file_for_another_target_is_refused(name, tflite_of):
    path, _ = tflite_of("int8", target="npu")
    report = judged(path, name)
    assert not report.passed
    assert f"target='{name}'" in str(report)


def test_all_targets_at_once(tflite_of):
    path, _ = tflite_of()
    reports = check_all(path)
    assert list(reports) == [name for name in TARGETS if name != "any"]
    assert reports["cpu"].passed and not reports["npu"].passed
    assert "by list" in reports["google_tensor"].tool
    some = check_all(path, targets=["openvino", "npu"])
    assert list(some) == ["openvino", "npu"]


@pytest.mark.parametrize("task", ["classify", pytest.param("segment", marks=SLOW)])
def test_every_compiler_takes_what_is_for_any_npu(task, pixels, tmp_path):
    path, model = tmp_path / "m.tflite", exported(task=task)
    options = {"calibration": pixels, "enforce_parity": False}
    export.to_tflite(model, path, scheme="int8", target="npu", **options)
    compilers = TARGETS["npu"].checker_options["compilers"]
    reports = check_all(path, targets=compilers)
    here = [r for r in reports.values() if not isinstance(r, export.MissingDependency)]
    assert here and all(report.passed for report in here), [*map(str, here)]


def test_missing_tool_is_named_and_the_file_written(
    model, pixels, tmp_path, monkeypatch
):
    import importlib.metadata

    def version(package, known=importlib.metadata.version):
        if package == "ethos-u-vela":
            raise importlib.metadata.PackageNotFoundError(package)
        return known(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    path = tmp_path / "m.tflite"
    report = export.to_tflite(
        model, path, scheme="int8", target="ethos_u85", calibration=pixels
    )
    assert any("not proven" in n and "[edge]" in n for n in report.notes)
    with pytest.raises(export.MissingDependency, match=r"vit-keras-edge\[edge\]"):
        export.check(path, "ethos_u85")


def test_table_of_versions():
    for name, row in VERSIONS.items():
        for types, (version, release) in row.items():
            assert needed(name, types.split()) == (version, release)
            assert version >= 1 and version_key("1.5") <= version_key(
                release
            ) <= version_key("2.21")
    assert needed("NO_SUCH", ["FLOAT32"]) is None


def test_runtime_is_what_the_converter_says(tflite_of):
    from ai_edge_litert.tools import flatbuffer_utils

    path, _ = tflite_of()
    held = flatbuffer_utils.read_model(str(path))
    (place,) = [m.buffer for m in held.metadata if m.name == b"min_runtime_version"]
    converter = bytes(held.buffers[place].data).rstrip(b"\0").decode()
    assert (
        version_key(minimum_runtime(read_operators(path))) == version_key(converter)[:2]
    )


@pytest.mark.parametrize("scheme", ["int8", "dynamic_int8", "int16x8"])
def test_versions_suit_the_types(scheme, tflite_of):
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    path, _ = tflite_of(scheme)
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if k[0] != "_"}
    codes = {
        names[code.builtinCode]: code
        for code in flatbuffer_utils.read_model(str(path)).operatorCodes
    }
    for op in read_operators(path):
        version, _ = needed(op.name, op.inputs)
        assert codes[op.name].version >= version, op
        code = codes[op.name]
        assert code.deprecatedBuiltinCode == min(code.builtinCode, 127)


def test_runtime_as_a_limit(tflite_of):
    path, _ = tflite_of("int8")
    assert export.check(path, "npu").runtime == "2.12"  # EXP in int8
    assert export.check(path, "npu", runtime="2.14").passed
    report = export.check(path, "npu", runtime="2.9")
    assert "needs TensorFlow Lite 2.12, later than 2.9, for EXP" in str(report)
    with pytest.raises(ValueError, match="`runtime` must be a release"):
        export.check(path, "npu", runtime="new")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["float32", "int8"])
@pytest.mark.parametrize("size", ["digits", "vit_ti16"])
def test_table_of_all_targets(size, scheme, pixels, tmp_path):
    """What the README says of each target, on a small and on a published size."""
    import vit_keras

    if size == "digits":
        model, images = exported(), pixels
    else:
        model = vit_keras.create_model("vit_ti16")
        images = np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), "uint8")
    path = tmp_path / "m.tflite"
    # Random weights keep less than trained ones; what is taken does not depend on it.
    options = {"calibration": images, "enforce_parity": False}
    export.to_tflite(model, path, scheme=scheme, **options)
    reports = check_all(path)
    missing = {n for n, r in reports.items() if isinstance(r, Exception)}
    assert missing <= {"gpu"}
    taken = {n for n, r in reports.items() if n not in missing and r.passed}
    by_list = {"google_tensor"}
    ethos = {"ethos_u55", "ethos_u65", "ethos_u85"}
    expected = {
        "float32": {"cpu", "gpu", "openvino", "mediatek", *by_list},
        "int8": {"cpu", "npu", "openvino", *ethos, *by_list},
    }[scheme]
    assert taken | missing == expected | missing
