"""Vela: cycles by operator and block, other devices, the compiled file."""

import pathlib
import subprocess
import sys
import venv

import keras
import pytest

import export
from export.evaluation.profile import block_of, plot_profile
from export.evaluation.tools.vela import compile_file
from export.flatbuffer.operators import read_operators
from tests import program
from tests.models import EXPORTED

vela = pytest.importorskip("ethosu.vela.architecture_features")
INI = pathlib.Path(vela.CONFIG_FILES_PATH, "Arm", "vela.ini")
STOPS = "Vela stops: .*number of elements"
U55 = ("ethos_u55", "ethos-u55-128")


@pytest.fixture(scope="module")
def file(tflite_of):
    return tflite_of("int8", target="ethos_u55")[0]


@pytest.fixture(scope="module")
def stopping(tmp_path_factory):
    """A file at which Vela stops: its batch is unknown."""
    import tensorflow as tf

    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Reshape((4, 16))(keras.layers.Conv2D(16, 4, 4)(x))
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    folder = tmp_path_factory.mktemp("stop")
    model.export(folder / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    (folder / "m.tflite").write_bytes(converter.convert())
    return folder / "m.tflite"


@pytest.mark.parametrize("target", ["ethos_u55", "ethos_u85"])
def test_profile(target, tflite_of):
    path, report = tflite_of("int8", target=target)
    found = export.profile(path, target)
    assert found.estimate_ms == report.facts["estimate_ms"]
    assert found.accelerator == report.facts["accelerator"]
    # Names are those of the file, not of Vela: FullyConnected, ReduceSum.
    assert {s.name for s in found.operators} <= {op.name for op in read_operators(path)}
    blocks = [f"encoderblock_{n}" for n in range(EXPORTED.num_layers)]
    order = list(dict.fromkeys(layer.block for layer in found.layers))
    assert order == ["input", "embedding", *blocks, "head"]
    for shares in (found.operators, found.blocks):
        cycles = [share.cycles for share in shares]
        assert cycles == sorted(cycles, reverse=True) and cycles[0] > 0
        assert sum(share.operations for share in shares) == len(found.layers)
        assert sum(share.cycles_share for share in shares) == pytest.approx(1)
        assert sum(share.macs_share for share in shares) == pytest.approx(1)
    tokens, width, inner = 17, EXPORTED.hidden_size, EXPORTED.mlp_dim
    macs = {"embedding": 16 * 8 * 8 * 3 * width}
    macs[blocks[0]] = tokens * width * (4 * width + 2 * inner)
    linear = ("CONV_2D", "FULLY_CONNECTED")
    for block, count in macs.items():
        layers = [x for x in found.layers if x.block == block and x.operator in linear]
        assert sum(layer.macs for layer in layers) == count
    assert found.operators[0].name in str(found)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("serving_default_images:0_quantized", "input"),
        ("vit_1/embedding/add;vit_1/embedding/convolution", "embedding"),
        ("functional_3/vit_1/encoderblock_11/mlp/add_1", "encoderblock_11"),
        ("vit_1/top/norm/mul", "head"),
        ("StatefulPartitionedCall_1:0", "head"),
        ("functional_1/layer_normalization_1/add;x/encoderblock_0", "layer_norm"),
        ("vit_1/taps/norm/mul", "taps"),
    ],
)
def test_blocks_by_name(name, block):
    assert block_of(name).startswith(block)


def test_plot(file, tmp_path):
    plot_profile(export.profile(file, "ethos_u55"), tmp_path / "cycles.png")
    assert (tmp_path / "cycles.png").read_bytes()[:4] == b"\x89PNG"


def test_another_device(file):
    options = {"accelerator": "ethos-u55-128"}
    usual, other = (export.check(file, "ethos_u55", options=o) for o in (None, options))
    assert other.passed and other.facts["accelerator"] == "ethos-u55-128"
    assert other.facts["estimate_ms"] > usual.facts["estimate_ms"]
    found = export.profile(file, "ethos_u55", options=options)
    assert found.accelerator == "ethos-u55-128"
    assert found.estimate_ms == other.facts["estimate_ms"]
    names = {"system_config": "Ethos_U55_Deep_Embedded", "memory_mode": "Sram_Only"}
    report = export.check(file, "ethos_u55", options=names)
    assert {name: report.facts[name] for name in names} == names


def test_a_configuration_file_of_the_user(file, tmp_path):
    own, text = tmp_path / "board.ini", INI.read_text()
    section = "[System_Config.Ethos_U55_High_End_Embedded]"
    part = text.partition(section)[2].partition("[")[0]
    fast = part.replace("core_clock=500e6", "core_clock=1000e6")
    assert fast != part
    memory = text[text.index("[Memory_Mode.") :]
    names = ("Ethos_U55_Same", "Ethos_U55_Fast", "Board")
    for name, values in zip(names, (part, fast, part), strict=True):
        memory += f"\n[System_Config.{name}]{values}"
    own.write_text(memory)
    times = []
    for name in names[:2]:
        options = {"system_config": name, "vela_ini": own}
        facts = export.check(file, "ethos_u55", options=options).facts
        assert (facts["system_config"], facts["vela_ini"]) == (name, str(own))
        times.append(facts["estimate_ms"])
    usual = export.check(file, "ethos_u55").facts
    assert times[0] == usual["estimate_ms"] and "system_config" not in usual
    assert times[1] < times[0]
    # Under another name Vela 5.2 takes the bus of an Ethos-U55 for one twice as wide.
    options = {"system_config": "Board", "vela_ini": own}
    with pytest.raises(ValueError, match="one of Ethos_U55_Same, Ethos_U55_Fast, by"):
        export.check(file, "ethos_u55", options=options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accelerators": "x"}, "accelerator, system_config, memory_mode, vela_ini"),
        ({"accelerator": "ethos-u85-128"}, "one of ethos-u55-32, .*ethos-u55-256, by"),
        (
            {"system_config": "x"},
            "_Deep_Embedded, Ethos_U55_High_End_Embedded, by",
        ),
        ({"memory_mode": "x"}, "Sram_Only, Shared_Sram, .*memory_mode='x'"),
        ({"memory_mode": "Dedicated_Sram"}, "refuses the configuration .*arena_mem"),
        ({"vela_ini": "board.txt"}, r"must be a file \*\.ini"),
    ],
)
def test_unknown_names(options, words, file):
    with pytest.raises(ValueError, match=words):
        export.check(file, "ethos_u55", options=options)
    with pytest.raises(ValueError, match=words):
        export.profile(file, "ethos_u55", options=options)


def test_broken_configuration_files(file, tmp_path):
    own = tmp_path / "board.ini"
    with pytest.raises(FileNotFoundError, match="board.ini"):
        export.check(file, "ethos_u55", options={"vela_ini": own})
    own.write_text("core_clock=1\n")
    with pytest.raises(ValueError, match="file of sections: .*no section headers"):
        export.check(file, "ethos_u55", options={"vela_ini": own})
    own.write_text("[Memory_Mode.Shared_Sram]\n")
    with pytest.raises(ValueError, match="`system_config` must be one of none, by"):
        export.check(file, "ethos_u55", options={"vela_ini": own})


def test_options_are_of_ethos_targets(file, tmp_path):
    options = {"accelerator": "ethos-u55-128"}
    with pytest.raises(ValueError, match="target 'cpu' is checked by xnnpack"):
        export.check(file, "cpu", options=options)
    with pytest.raises(ValueError, match="must be None for target 'tf-serving'"):
        export.check(tmp_path, "tf-serving", options=options)
    with pytest.raises(ValueError, match="one of ethos_u55, ethos_u65, ethos_u85"):
        export.profile(file, "cpu")


def test_vela_needs_no_script(file, tmp_path, monkeypatch):
    """Vela lies where this Python finds it, whose scripts may be elsewhere."""
    venv.create(tmp_path / "bare", with_pip=False)
    folder = "Scripts" if sys.platform == "win32" else "bin"
    python = tmp_path / "bare" / folder / "python"
    (tmp_path / "csv.py").write_text("raise SystemExit('a module of the user')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(python))
    command = [python, "-P", "-m", "ethosu.vela", "--version"]
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert subprocess.run(command, capture_output=True).returncode == 1
    assert export.check(file, "ethos_u55").passed


def test_compiled_file(file, stopping, tmp_path):
    out = tmp_path / "out.tflite"
    result = compile_file(file, out, "ethos_u55", {"accelerator": U55[1]})
    names = [op.name for op in read_operators(out)]
    assert names.count("CUSTOM:ethos-u") == 1 and len(names) <= 3
    checked = export.check(file, "ethos_u55", options={"accelerator": U55[1]})
    assert (result.facts, result.tool) == (checked.facts, checked.tool)
    assert not result.unsupported

    before = out.read_bytes()
    with pytest.raises(export.UnsupportedOperators, match=STOPS):
        compile_file(stopping, out, "ethos_u55")
    with pytest.raises(ValueError, match="must be a whole TFLite file"):
        compile_file(__file__, out, "ethos_u55")
    with pytest.raises(FileNotFoundError):
        compile_file(file, tmp_path / "none" / "out.tflite", "ethos_u55")
    assert out.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.tflite"]


def test_profile_of_a_file_at_which_vela_stops(stopping):
    with pytest.raises(export.UnsupportedOperators, match=STOPS):
        export.profile(stopping, "ethos_u55")


def test_profile_of_a_file_on_the_cpu(tflite_of):
    found = export.profile(tflite_of("float32")[0])
    assert not found.operators and "all is on the CPU" in str(found)


def test_command(file, stopping, tmp_path):
    def run(*arguments):
        return program.run("vit-export", "check", *arguments)

    chart = tmp_path / "cycles.svg"
    device = ("--target", U55[0], "--accelerator", U55[1])
    done = run(file, *device, "--profile", "--plot", chart)
    assert done.returncode == 0, done.stderr
    assert "accelerator: ethos-u55-128" in done.stdout
    rows = [line.split("│") for line in done.stdout.splitlines() if "│" in line]
    shares = {row[1].strip(): row[4].strip() for row in rows}
    found = export.profile(file, U55[0], options={"accelerator": U55[1]})
    assert list(shares) == [s.name for s in (*found.operators, *found.blocks)]
    (embedding,) = (block for block in found.blocks if block.name == "embedding")
    assert shares["embedding"] == f"{embedding.cycles_share:.1%}"
    assert "<svg" in chart.read_text()

    assert "│" not in run(file, *device).stdout
    done = run(stopping, *device, "--profile")
    assert done.returncode == 1 and "Vela stops" in done.stdout
    program.refused(run(file, "--profile", "--target", "cpu"), "vit-export", "ethos")
    done = run(file, "--profile", "--target", "all")
    program.refused(done, "vit-export", "one of Ethos-U for --profile")
