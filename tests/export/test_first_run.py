"""Files of strangers run in a child process first; those made here do not."""

import subprocess

import numpy as np
import pytest

from export.evaluation.runners import load
from export.flatbuffer import first_run
from export.flatbuffer.objects import pack, unpack
from export.graph.open_source import open_tflite


@pytest.fixture
def runs(monkeypatch):
    """The functions that child processes ran."""
    found, run_check = [], first_run.run_check

    def noted(function, path, **options):
        found.append(function.partition(":_")[2])
        return run_check(function, path, **options)

    monkeypatch.setattr(first_run, "run_check", noted)
    return found


def no_scale(model):
    """LiteRT's quantised kernels take it for granted."""
    graph, mean = model.subgraphs[0], 40
    codes = [code.builtinCode for code in model.operatorCodes]
    op = next(op for op in graph.operators if codes[op.opcodeIndex] == mean)
    graph.tensors[op.outputs[0]].quantization = None


def no_input(model):
    """An operand that is none, where there must be one."""
    model.subgraphs[0].operators[-2].inputs[0] = -1


def far_signature(model):
    """LiteRT reads behind its list of subgraphs, and crashes some time later."""
    model.signatureDefs[0].subgraphIndex = 65536


def far_end(model):
    model.signatureDefs[0].outputs[0].tensorIndex = 65536


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_scale, "it ends the process, as at a damaged file"),
        (no_input, "it ends the process, as at a damaged file"),
        (far_signature, "a signature is of a subgraph that is not there"),
        (far_end, "a signature is of a tensor that is not there"),
    ],
)
def test_what_ends_litert_is_refused(change, words, tflite_of, tmp_path, runs):
    path, _ = tflite_of("int8")
    model = unpack(path.read_bytes())
    change(model)
    (tmp_path / "m.tflite").write_bytes(pack(model))
    with pytest.raises(ValueError, match=f"cannot run '.*m.tflite': .*{words}"):
        load(tmp_path / "m.tflite")
    assert runs == ["run"]


def test_a_stranger_runs_once_and_a_changed_file_again(tflite_of, tmp_path, runs):
    path, _ = tflite_of("float32")
    load(path)
    assert not runs  # it was made here
    other = tmp_path / "m.tflite"
    other.write_bytes(path.read_bytes())
    for _ in range(2):
        load(other)(np.zeros((1, 32, 32, 3)))
    assert runs == ["run"]
    with first_run.making_files():
        other.write_bytes(path.read_bytes() + b"\0" * 16)
        load(other)
    assert runs == ["run"]
    load(other)
    assert runs == ["run"] * 2
    floats = tflite_of("float32", input_dtype="float32")[0]
    other.write_bytes(floats.read_bytes())
    open_tflite(other)
    assert runs == [*["run"] * 3, "run_without_delegates"]


def test_time_and_memory_are_bounded(tflite_of, tmp_path, monkeypatch):
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite_of("float32")[0].read_bytes())

    def sleeps(function, path, timeout):
        assert timeout == first_run.SECONDS
        raise subprocess.TimeoutExpired("python", timeout)

    def takes_much(function, path, timeout):
        raise MemoryError

    for run, words in ((sleeps, "no end after 600 s"), (takes_much, "the 8 GiB that")):
        monkeypatch.setattr(first_run, "run_check", run)
        with pytest.raises(ValueError, match=words):
            load(path)
