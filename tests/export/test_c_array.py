"""C headers of `.tflite` files: they compile, and hold what the files hold."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import export
from export.evaluation.runners import TFLiteRunner
from export.evaluation.tools.micro import smallest_size
from export.flatbuffer.operators import read_operators
from export.tflite.c_array import adder
from tests.program import refused, run

HERE = pathlib.Path(__file__).parent
MAIN = HERE.parents[1] / "examples" / "device" / "microcontroller" / "main.cc"
# Characters that end strings, comments or escapes of C, or begin trigraphs.
LABELS = ["Löwe", 'a "b"', "back\\", "??/", "1", "é1", "*/", *"hij"]
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
COMPILERS = {"c": ("gcc", "-std=c11"), "cc": ("g++", "-std=c++17")}
# Writes what the header holds, for the test to read.
PROGRAM = """
#include <stdio.h>
#include "model.h"
int main(void) {
  size_t i;
  fwrite(model_data, 1, model_size, stdout);
  for (i = 0; i < MODEL_LABELS; ++i) fprintf(stderr, "%s\\n", model_labels[i]);
  fprintf(stderr, "%d %d %d %d\\n", model_input_shape[0], model_input_shape[1],
          model_input_shape[2], model_input_shape[3]);
  fprintf(stderr, "%d %d %.9g %d\\n", MODEL_INPUT_SIZE, MODEL_OUTPUT_SIZE,
          (double)MODEL_OUTPUT_SCALE, MODEL_OUTPUT_ZERO_POINT);
  fprintf(stderr, "%d %d\\n", (int)sizeof(MODEL_INPUT_TYPE),
          (int)((uintptr_t)(const void*)model_data % 16));
  return (MODEL_INPUT_TYPE)-1 > 0 ? 0 : 1;
}
"""


@pytest.fixture(scope="module")
def header(model, pixels, tmp_path_factory):
    """The header of an int8 file, the file, and the report."""
    path = tmp_path_factory.mktemp("micro") / "micro.tflite"
    options = {"calibration": pixels, "labels": LABELS}
    export.to_tflite(model, path, scheme="int8", target="micro", **options)
    out = path.with_name("model.h")
    return out, path, export.c_array(path, out)


def compiled(language, source, folder, *options):
    """Compile a file without a warning; return the path of what came out."""
    compiler, standard = COMPILERS[language]
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    out = folder / "out"
    command = [compiler, standard, *STRICT, *options, source, "-o", out]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("language", COMPILERS)
def test_header_holds_the_file(language, header, tmp_path):
    out, path, report = header
    source = tmp_path / f"program.{language}"
    source.write_text(PROGRAM)
    program = compiled(language, source, tmp_path, f"-I{out.parent}")
    done = subprocess.run([program], capture_output=True)
    assert done.returncode == 0  # the input's type is unsigned
    assert done.stdout == path.read_bytes()
    assert report.size_bytes == len(done.stdout)
    *labels, shape, facts, kind = done.stderr.decode().splitlines()
    assert labels == LABELS
    assert shape == "1 32 32 3"
    runner = TFLiteRunner(path)
    (end,) = runner.interpreter.get_output_details()
    scale, zero = end["quantization"]
    sizes, found = facts.split()[:2], facts.split()[2:]
    assert sizes == ["3072", "10"]
    assert float(found[0]) == pytest.approx(scale, rel=1e-8) and int(found[1]) == zero
    assert kind == "1 0"


def test_main_compiles(header, tmp_path):
    """Against declarations of what it uses: the runtime itself is not installed."""
    out = header[0]
    declared = f"-I{HERE / 'tflm_declarations'}"
    compiled("cc", MAIN, tmp_path, "-c", f"-I{out.parent}", declared)


def test_operators_are_those_of_the_file(header):
    out, path, report = header
    kinds = {op.name for op in read_operators(path)}
    assert set(report.operators) == kinds
    text = out.read_text()
    assert f"#define MODEL_OPERATORS {len(kinds)}\n" in text
    assert len(re.findall(r"resolver\.Add\w+\(\)", text)) == len(kinds)
    declared = HERE / "tflm_declarations" / "tensorflow/lite/micro"
    declared = (declared / "micro_mutable_op_resolver.h").read_text()
    for kind in kinds:
        assert f"resolver.{adder(kind)}() == 0" in text
        assert f"TfLiteStatus {adder(kind)}();" in declared
    assert adder("BATCH_MATMUL") == "AddBatchMatMul"
    assert adder("CUSTOM:ethos-u") == "AddEthosU"


def test_arena_suffices(header):
    """And 3 % less does not: it is at most 1 % above the smallest."""
    _, path, report = header
    pytest.importorskip("tflite_micro")
    code = (
        "import sys\nfrom tflite_micro.python.tflite_micro.runtime import Interpreter\n"
        "one = Interpreter.from_file(sys.argv[1], arena_size=int(sys.argv[2]))\n"
        "one.invoke()"
    )

    def status(size):
        command = [sys.executable, "-c", code, path, str(size)]
        return subprocess.run(command, capture_output=True).returncode

    assert status(report.arena_bytes) == 0
    assert status(int(0.97 * report.arena_bytes)) != 0
    assert f"#define MODEL_ARENA_BYTES {report.arena_bytes}\n" in header[0].read_text()


@pytest.mark.parametrize("needed", [1, 16384, 16400, 100_000, 999_984])
def test_smallest_size(needed):
    found = smallest_size(lambda size: size >= needed, 1_000_000)
    assert needed <= found <= max(needed + 16, 1.011 * needed) or found <= 16384
    assert found % 16 == 0


def test_command(header, tmp_path):
    out, path, report = header
    done = run("vit-export", "c-array", path, tmp_path / "model.h")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.h").read_bytes() == out.read_bytes()
    assert "arena" in done.stdout and f"{report.arena_bytes} bytes" in done.stdout


def test_what_the_runtime_lacks_is_refused(tflite_of, tmp_path):
    """With what helps: a file of another target has operators that it has not."""
    path, _ = tflite_of("int8")
    done = run("vit-export", "c-array", path, tmp_path / "m.h")
    refused(done, "vit-export", "was not written", "target='micro'")
    assert not list(tmp_path.iterdir())


def test_bad_arguments(header, tmp_path):
    _, path, _ = header
    with pytest.raises(ValueError, match="`out` must begin with a letter.*8bit.h"):
        export.c_array(path, tmp_path / "8bit.h")
    with pytest.raises(ValueError, match="`out` must not be the file to read"):
        export.c_array(path, path)
    (tmp_path / "bad.tflite").write_bytes(b"no model")
    with pytest.raises(ValueError, match="`path` must be a whole TFLite file"):
        export.c_array(tmp_path / "bad.tflite", tmp_path / "m.h")


def test_without_the_runtime_the_header_says_so(header, tmp_path, monkeypatch):
    """No arena, and the line that installs it."""

    def missing(path, target):
        raise export.MissingDependency("pip install 'vit-keras-edge[edge]'")

    monkeypatch.setattr("export.tflite.c_array.check", missing)
    report = export.c_array(header[1], tmp_path / "model.h")
    text = (tmp_path / "model.h").read_text()
    assert report.arena_bytes is None and "arena unknown" in str(report)
    assert "not run here: pip install" in text
    assert "#define MODEL_ARENA_BYTES" not in text
    assert "#define MODEL_OPERATORS" in text


def test_several_outputs_and_names_that_c_does_not_have(model, pixels, tmp_path):
    path, out = tmp_path / "größe.tflite", tmp_path / "model-1.h"
    options = {"calibration": pixels, "outputs": ("logits", "attention")}
    export.to_tflite(model, path, scheme="int8", target="micro", **options)
    export.c_array(path, out)
    text = out.read_text(encoding="ascii")
    for name, size in (("LOGITS", 10), ("ATTENTION", 16)):
        assert f"#define MODEL_1_OUTPUT_{name}_SIZE {size}\n" in text
    assert "There are no labels" in text
    compiled("cc", out, tmp_path, "-fsyntax-only", "-Wno-pragma-once-outside-header")


def of_tensorflow(folder, function):
    """A file of one of TensorFlow's functions."""
    import tensorflow as tf

    module = tf.Module()
    module.f = tf.function(function, input_signature=[tf.TensorSpec((2, 2))])
    traced = [module.f.get_concrete_function()]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(traced, module)
    (folder / "model.tflite").write_bytes(converter.convert())
    return folder / "model.tflite"


@pytest.mark.parametrize("language", COMPILERS)
def test_scalars_and_truths(language, tmp_path):
    """C has no empty arrays, and no `bool_t`."""
    import tensorflow as tf

    path = of_tensorflow(tmp_path, lambda x: {"sum": tf.reduce_sum(x), "above": x > 0})
    export.c_array(path, tmp_path / "model.h")
    source = tmp_path / f"program.{language}"
    source.write_text(
        '#include "model.h"\nint main(void) {\n'
        "  MODEL_OUTPUT_ABOVE_TYPE above[MODEL_OUTPUT_ABOVE_SIZE] = {true};\n"
        "  MODEL_OUTPUT_SUM_TYPE sum = 0.5f;\n"
        "  return above[0] && sum == 0.5f && model_output_sum_shape[0] == 1 &&\n"
        "         sizeof(above) == 4 ? 7 : 0;\n}\n"
    )
    unused = "-Wno-unused-variable", "-Wno-unused-const-variable"
    program = compiled(language, source, tmp_path, *unused)
    assert subprocess.run([program]).returncode == 7


@pytest.mark.parametrize("names", [("a-b", "a_b"), ("Logits", "logits")])
def test_outputs_of_the_same_name_in_c(names, tmp_path):
    """One would replace the other, or its macros."""
    path = of_tensorflow(tmp_path, lambda x: {names[0]: x + 1, names[1]: x * 2})
    with pytest.raises(ValueError, match=f"differ in C.*'{names[0]}' and '{names[1]}'"):
        export.c_array(path, tmp_path / "model.h")
    assert not (tmp_path / "model.h").exists()


def test_what_vela_compiled_becomes_a_header(tflite_of, tmp_path):
    """Firmware registers the NPU's operator; nothing here runs it."""
    pytest.importorskip("ethosu.vela")
    path, _ = tflite_of("int8", target="ethos_u55")
    npu = tmp_path / "npu.tflite"
    export.compile_tflite(path, npu, "ethos_u55")
    report = export.c_array(npu, tmp_path / "model.h")
    assert "CUSTOM:ethos-u" in report.operators and report.arena_bytes is None
    text = (tmp_path / "model.h").read_text()
    assert "resolver.AddEthosU() == 0" in text and "Vela" in text
