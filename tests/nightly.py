"""The tests with one newer package at a time: which of them broke what.

    python tests/nightly.py [--packages keras ai-edge-litert] [--tests PATHS]

Each nightly release is put in front of what is installed, in a folder of its own, so
that nothing else changes. Prints a line per package, what failed with it and not
without, and ends with 1 if anything did.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
NIGHTLY = {
    "keras": "keras-nightly",
    "ai-edge-litert": "ai-edge-litert-nightly",
    "litert-quantizer": "litert-quantizer-nightly",
}
# What leans on them most: private names, models, files, quantisation, targets.
TESTS = [
    "tests/test_private_names.py",
    "tests/vit_keras/test_model.py",
    "tests/vit_keras/training/test_resume.py",
    "tests/export/test_tflite.py",
    "tests/export/test_foreign.py",
    "tests/export/test_targets.py",
    "tests/export/test_quantize_aware.py",
    "tests/export/test_saved_model.py",
]


def install(package, folder):
    """The newest nightly release of a package, alone; return its version."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--pre"]
    subprocess.run([*command, "--upgrade", "--target", folder, package], check=True)
    (metadata,) = pathlib.Path(folder).glob("*.dist-info/METADATA")
    found = re.search(r"^Version: (.+)$", metadata.read_text(), re.MULTILINE)
    return found.group(1) if found else "?"


def failures(tests, folder=None):
    """{test: reason} of those that fail, with a folder in front of all packages."""
    paths = [str(ROOT), *([folder] if folder else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(reversed(paths))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-q", "-rfE", "--tb=no"]
        # A newer release may warn of what it will take away: that is not yet broken.
        + ["-W", "ignore", "-m", "not slow and not web", *tests],
        **{"cwd": ROOT, "env": environment, "capture_output": True, "text": True},
    )
    print(done.stdout.splitlines()[-1])
    if done.returncode not in (0, 1):  # not tests that failed, but no tests at all
        return {"pytest": (done.stdout + done.stderr).strip()[-2000:]}
    lines = re.findall(r"^(?:FAILED|ERROR) (\S+)(?: - (.*))?$", done.stdout, re.M)
    return dict(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", nargs="+", default=list(NIGHTLY), choices=NIGHTLY)
    parser.add_argument("--tests", nargs="+", default=TESTS)
    options = parser.parse_args()
    print("as installed:", end=" ", flush=True)
    before, broke = failures(options.tests), False
    for package in options.packages:
        with tempfile.TemporaryDirectory() as folder:
            version = install(NIGHTLY[package], folder)
            print(f"{NIGHTLY[package]} {version}:", end=" ", flush=True)
            found = failures(options.tests, folder)
        for test, reason in found.items():
            if test not in before:
                broke = True
                print(f"  broke {test}: {reason}")
    sys.exit(broke)


if __name__ == "__main__":
    main()
