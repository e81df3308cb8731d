"""The wheel: what is in it, and that it works where there is no checkout."""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What the packages read beside their modules.
DATA = (".npz", ".pyi", ".typed", ".toml", ".json", ".html", ".css", ".js", ".svg")


def run(*command, cwd, **environment):
    """What a command prints; the checkout is out of its sight."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH",)}
    done = subprocess.run(
        [str(part) for part in command],
        **{"capture_output": True, "text": True, "cwd": cwd},
        env={**inherited, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, ROOT, cwd=folder)
    (path,) = folder.glob("vit_keras_edge-*.whl")
    return path


def environment(folder, requirement):
    """The programs of a new environment with one package in it."""
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    binaries = folder / "venv" / "bin"
    pip = (sys.executable, "-m", "pip", "--python", binaries / "python")
    # Most of their modules are never imported.
    run(*pip, "install", "--quiet", "--no-compile", requirement, cwd=folder)
    return binaries


def test_wheel_holds_every_file_of_the_packages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = {
        str(path.relative_to(ROOT))
        for package in ("vit_keras", "export")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", *DATA)
    }
    assert files <= names
    assert {"vit_keras/py.typed", "export/py.typed"} <= names
    assert "export/web/static/app.js" in names
    rest = {name for name in names - files if ".dist-info/" not in name}
    assert rest == set()
    (sbom,) = [name for name in names if ".dist-info/sboms/" in name]  # PEP 770
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(sbom) == (ROOT / "sbom.cdx.json").read_bytes()


def test_commands_run_in_a_clean_environment(wheel, tmp_path):
    binaries = environment(tmp_path, wheel)
    assert "vit_b16" in run(binaries / "vit-keras", "presets", cwd=tmp_path)
    assert "digits" in run(binaries / "vit-keras", "recipes", cwd=tmp_path)
    assert "ethos_u55" in run(binaries / "vit-export", "targets", cwd=tmp_path)
    for program in ("vit-keras", "vit-export"):
        assert "Usage" in run(binaries / program, "--help", cwd=tmp_path)
    # Without a backend, a command that needs one says which line brings it.
    done = subprocess.run(
        [binaries / "vit-keras", "train", "--data", "digits", "--out", "run"],
        **{"capture_output": True, "text": True, "cwd": tmp_path},
    )
    assert done.returncode == 2
    assert "pip install" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_train_and_export_in_a_clean_environment(wheel, tmp_path):
    binaries = environment(tmp_path, f"vit-keras-edge[export] @ {wheel.as_uri()}")
    training = ("--data", "digits", "--recipe", "digits", "--epochs", "1")
    run(binaries / "vit-keras", "train", *training, "--out", "run", cwd=tmp_path)
    export = (binaries / "vit-export", "tflite", "run/model.keras", "m.tflite")
    run(*export, "--scheme", "int8", "--calibration", "digits", cwd=tmp_path)
    report = json.loads((tmp_path / "m.tflite.json").read_text())
    assert report["parity"]["passed"] and report["labels"] == list("0123456789")
