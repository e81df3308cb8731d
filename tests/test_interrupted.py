"""Work that is stopped at any operation on files leaves the old result, or the new."""

import builtins
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from benchmarks.reliability import interrupted_work
from benchmarks.reliability.interrupted_faults import children
from export import backend
from export.child_process import run_check
from export.comparison_report import measure_file
from export.comparison_report.plan_files import plan_files
from export.compression.compress import compress
from export.serving.saved_model import to_saved_model
from export.tflite import file_metadata
from tests.vit_keras.training.runs import SHORT, few, quiet
from vit_keras import atomic, training
from vit_keras.cli.program import stop_signals

# Writes a folder, and a file with its note; argv: folder, step, "kill" or an errno.
WRITES = """
import pathlib, sys
from benchmarks.reliability.forked_run import fail_at_step
from vit_keras.atomic import publish_together, publishing, workspace
out, step, what = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if step >= 0:
    fail_at_step(step, what if what == "kill" else int(what), out)
with publishing(out / "folder", folder=True) as work:
    work.mkdir()
    for name in "ab":
        (work / name).write_text(sys.argv[4])
with workspace(out / "file") as work:
    note = work.with_name("note")
    work.write_text(sys.argv[4])
    note.write_text(sys.argv[4])
    publish_together({out / "file": work, out / "note": note})
"""


def write(out, step, what="kill", text="new"):
    command = [sys.executable, "-c", WRITES, out, str(step), str(what), text]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def texts(out):
    files = [path for path in out.rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_text() for path in files}


def state(text):
    return {name: text for name in ("folder/a", "folder/b", "file", "note")}


@pytest.mark.parametrize("what", ["kill", 28])  # 28: the disk is full
def test_every_operation_on_files(tmp_path, what):
    out = tmp_path / "out"
    out.mkdir()
    assert write(out, -1, text="old").returncode == 0
    assert texts(out) == state("old")
    assert write(out, 0, what, "old").returncode == 0  # counts the operations
    steps = len((tmp_path / "out.steps").read_text().splitlines())
    assert steps > 8
    for step in range(1, steps + 1):
        done = write(out, step, what)
        expected = -signal.SIGKILL if what == "kill" else 1
        assert done.returncode == expected, (step, done.stderr)
        assert what == "kill" or not list(out.glob(".partial-*"))
        seen = {k: text for k, text in texts(out).items() if not k.startswith(".")}
        assert "folder/b" in seen and seen["folder/a"] == seen["folder/b"]
        assert seen.get("note", seen["file"]) == seen["file"]
        for name in state("old"):
            (out / name).write_text("old")
    assert write(out, -1).returncode == 0
    assert texts(out) == state("new")  # and nothing that the killed ones left


def test_folder_without_exchange(tmp_path, monkeypatch):
    """As on systems, and disks, that do not exchange names in one step."""
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    for text in ("old", "new"):
        with atomic.publishing(tmp_path / "folder", folder=True) as work:
            work.mkdir()
            (work / "a").write_text(text)
    assert texts(tmp_path) == {"folder/a": "new"}
    replace = os.replace

    def full(source, target):
        if pathlib.Path(source).parent.name.startswith(".partial-") and not str(
            source
        ).endswith(".old"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with (
        pytest.raises(OSError, match="No space"),
        atomic.publishing(tmp_path / "folder", folder=True) as work,
    ):
        work.mkdir()
    assert texts(tmp_path) == {"folder/a": "new"}


@pytest.mark.parametrize(
    ("function", "folder", "finished"),
    [
        (lambda out: to_saved_model("m.keras", out / "1"), ".partial-1.x", "1/x"),
        (
            lambda out: compress("m.keras", "digits", method="qat", out=out),
            ".partial-model.keras.x",
            "model.keras",
        ),
        (
            lambda out: training.train(
                "digits", recipe=SHORT, out=out, console=quiet()
            ),
            ".partial-model.keras.x",
            "model.keras",
        ),
    ],
    ids=["saved-model", "qat", "train"],
)
def test_leftover_of_finished_work(function, folder, finished, tmp_path):
    """Killed between the result's name and the end; the same command is refused."""
    (tmp_path / folder).mkdir()
    (tmp_path / folder / ".lock").touch()
    (tmp_path / finished).parent.mkdir(exist_ok=True)
    (tmp_path / finished).touch()
    with pytest.raises(FileExistsError):
        function(tmp_path)
    assert not (tmp_path / folder).exists()


def test_living_work_is_no_leftover(tmp_path):
    with atomic.workspace(tmp_path / "m") as one, atomic.workspace(tmp_path / "m"):
        atomic.remove_leftovers(tmp_path)
        one.write_text("mine")
        assert len(list(tmp_path.glob(".partial-m.*"))) == 2
    (tmp_path / ".partial-m.of_earlier").mkdir()
    (tmp_path / ".partial-m.of_earlier" / "m").write_text("half")
    (tmp_path / ".partial-empty").mkdir()
    with atomic.workspace(tmp_path / "m"):
        assert len(list(tmp_path.glob(".partial-m.*"))) == 1
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_share_a_folder(tmp_path):
    with (
        atomic.sole_writer(tmp_path, "each run"),
        pytest.raises(BlockingIOError, match="of its own for each run.*another"),
    ):
        training.train(few(), SHORT, out=tmp_path, console=quiet())
    assert list(tmp_path.iterdir()) == []


# A program that works until it is stopped; argv: folder.
WORKS = """
import pathlib, sys, time, typer
from vit_keras.atomic import publishing
from vit_keras.cli.program import run_program
app = typer.Typer(pretty_exceptions_enable=False)
@app.command()
def work(out: pathlib.Path, broken: bool = False):
    with publishing(out / "file") as path:
        path.write_text("half")
        print("ready", flush=True)
        try:
            time.sleep(60)
        except KeyboardInterrupt as error:  # as libraries do
            raise (RuntimeError("lost") if broken else error)
run_program(app, "works")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("broken", [(), ("--broken",)])
def test_stopped_program_leaves_nothing(tmp_path, number, broken):
    command = [sys.executable, "-c", WORKS, tmp_path, *broken]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Jobs in the background, and these tests perhaps, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import sys
from vit_keras.cli.program import run_program
def app(**_):
    raise {error}
run_program(app, "works")
"""


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError",
        "type('ResourceExhaustedError', (Exception,), {})('OOM when allocating')",
        "RuntimeError('RESOURCE_EXHAUSTED: Out of memory')",
    ],
)
def test_too_little_memory_is_one_line(error):
    command = [sys.executable, "-c", MEMORY.replace("{error}", error)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("works: memory is too small: ")
    assert len(done.stderr.splitlines()) == 1


def test_abort_of_a_library_is_told():
    command = [
        sys.executable,
        "-c",
        MEMORY.replace("raise {error}", "__import__('os').abort()"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGABRT and "Aborted" in done.stderr


CHECKS = """
import os, signal
def kill_itself(_):
    os.kill(os.getpid(), signal.SIGKILL)
def need_memory(_):
    raise MemoryError
"""


def test_killed_check_is_no_finding(tmp_path, monkeypatch):
    (tmp_path / "own_checks.py").write_text(CHECKS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ChildProcessError, match="from outside by SIGKILL"):
        run_check("own_checks:kill_itself", tmp_path)
    with pytest.raises(MemoryError):
        run_check("own_checks:need_memory", tmp_path)


def test_record_never_replaces_the_model(tmp_path, monkeypatch):
    """zipfile begins a new archive where it cannot open the old one."""
    path = tmp_path / "m.tflite"
    path.write_bytes(b"the model")
    usual = io.open

    def busy(file, mode="r", *arguments, **options):
        if mode == "r+b":
            raise OSError(24, "Too many open files")
        return usual(file, mode, *arguments, **options)

    monkeypatch.setattr(io, "open", busy)
    monkeypatch.setattr(builtins, "open", busy)
    with pytest.raises(OSError, match="Too many"):
        file_metadata._append(path, "export.json", "{}")
    assert path.read_bytes() == b"the model"


def test_killed_child_of_an_export(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ChildProcessError, match="TensorFlow was ended .* by SIGKILL"):
        backend.run_in_child("to_tflite", {})


def test_stop_in_a_callback_is_not_lost(monkeypatch):
    """Python ignores what is raised there; on a busy machine a thread starts slowly."""
    start = threading.Thread.start

    def slowly(thread):
        start(thread)
        time.sleep(0.05)

    class Collected:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)

    monkeypatch.setattr(threading.Thread, "start", slowly)
    with stop_signals() as received, pytest.raises(KeyboardInterrupt):
        Collected()
        time.sleep(5)
    assert received == [signal.SIGTERM]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "command",
    ["python_command('import time; time.sleep(60)')", "program_command('sleep', '60')"],
)
def test_child_ends_with_its_parent(command):
    command = command.replace("'sleep'", f"'{shutil.which('sleep')}'")
    code = f"from export.child_process import *; run_child({command}, 'the child')"
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        deadline = time.monotonic() + 30
        while not (found := children(parent)) and time.monotonic() < deadline:
            time.sleep(0.02)
        parent.kill()
    (child,) = found
    while pathlib.Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not pathlib.Path(f"/proc/{child}").exists()


def test_fault_of_an_export_is_no_finding_of_a_report(tmp_path, monkeypatch):
    """The old file stays until another is there, or is refused."""

    def full(**_):
        raise OSError(28, "No space left on device")

    def refused(**_):
        raise ValueError("not like this")

    (planned,), _ = plan_files("float32", "any")
    path = tmp_path / "m.tflite"
    path.write_text("old")
    monkeypatch.setattr(measure_file, "to_tflite", full)
    with pytest.raises(OSError, match="No space"):
        measure_file._exported(planned, path, {})
    assert path.read_text() == "old"
    monkeypatch.setattr(measure_file, "to_tflite", refused)
    found = measure_file._exported(planned, path, {})
    assert found == {"failed": "ValueError: not like this", "sha256": None}
    assert not path.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")
def test_the_table(tmp_path):
    faults = "kill -9,kill -9 at a file operation,full at a file operation,Ctrl-C"
    table = tmp_path / "table.csv"
    command = [sys.executable, "-m", interrupted_work.__name__, "--out", table]
    command += ["--jobs", "download,web,tflite,train", "--faults", faults]
    done = subprocess.run([*command, "--times", "4"], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    rows = interrupted_work.Table(table).read()
    assert len(rows) == 16 and not any(row["wrong"] for row in rows), done.stdout
