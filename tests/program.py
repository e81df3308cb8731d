"""`vit-keras` and `vit-export` as a user types them, without another process."""

import contextlib
import importlib
import io
import subprocess
import sys

import keras
import pytest

MODULES = {"vit-keras": "vit_keras.cli", "vit-export": "export.cli"}


def run(program, *arguments):
    """What a program prints, and its exit status."""
    out, errors, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        # What `export.cli` sets for its own process.
        patch.setenv("KERAS_BACKEND", keras.backend.backend())
        patch.setenv("COLUMNS", "160")
        patch.setattr(sys, "argv", [program, *map(str, arguments)])
        main = importlib.import_module(MODULES[program]).main
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
    return subprocess.CompletedProcess(
        arguments, code, out.getvalue(), errors.getvalue()
    )


def refused(done, program, *words):
    """Exit status 2, and the last line of stderr tells why, without a traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"{program}: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in last, last
