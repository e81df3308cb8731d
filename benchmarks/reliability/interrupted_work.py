"""What is left of long work that was interrupted, by fault and command.

    python -m benchmarks.reliability.interrupted_work [--jobs tflite,train]
        [--faults "kill -9,Ctrl-C"] [--times 20] [--seed 0]

Each command of `interrupted_jobs.py` runs on a tiny model. Beside its result are
artefacts of another model under the same names, where the command replaces them. A
fault happens; then the same command is given again. Rows of the CSV that were made anew
replace those of the same job and fault.
"""

import argparse
import hashlib
import os
import pathlib
import random
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

from benchmarks.reliability.forked_run import REMOTE_URL, start  # noqa: E402
from benchmarks.reliability.interrupted_faults import FAULTS  # noqa: E402
from benchmarks.reliability.interrupted_jobs import (  # noqa: E402
    JOBS,
    REMOTE,
)
from benchmarks.reliability.interrupted_trial import Table, Trials  # noqa: E402
from tests.vit_keras.weights.file_server import FileServer  # noqa: E402

OUT = pathlib.Path("benchmarks/results/reliability/interrupted_work.csv")


def main():
    """Try what the command line names, and merge its rows into the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    parser.add_argument("--work", type=pathlib.Path, help="folder to work in; kept")
    given = parser.parse_args()
    work = given.work or pathlib.Path(tempfile.mkdtemp(prefix="interrupted-"))
    work.mkdir(parents=True, exist_ok=True)
    inputs = work / "inputs"
    if not inputs.is_dir():
        made = start("inputs", [str(inputs)], work / "inputs.log")
        if made.wait(600):
            raise RuntimeError(made.said)
    serve(inputs / REMOTE)
    load_everything()
    table = Table(given.out)
    for name in given.jobs.split(","):
        trials = Trials(name, JOBS[name], work, random.Random(given.seed))
        for fault in given.faults.split(","):
            if not FAULTS[fault].applies(name):
                continue
            table.add(trials.row(fault, FAULTS[fault], given.times))
    if given.work is None:
        shutil.rmtree(work)


def serve(file: pathlib.Path) -> None:
    """Serve the file to be downloaded, slowly, in a process that ends with this one."""
    server = FileServer(file.read_bytes())
    server.pause = 0.04
    os.environ[REMOTE_URL] = server.url
    os.environ["VIT_KERAS_SHA256"] = hashlib.sha256(server.body).hexdigest()
    if os.fork() == 0:
        import ctypes

        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: SIGKILL with the parent
        server.serve_forever()


def load_everything() -> None:
    """Import what the commands import; nothing may be computed before a fork."""
    import importlib

    for name in (
        "tensorflow",
        "keras",
        "pooch",
        "requests",
        "export.cli",
        "export.tflite.writer",
        "export.serving.saved_model",
        "export.compression.compress",
        "export.comparison_report.write_report",
        "export.web.web_page",
        "export.compilers",
        "export.tflite.c_array",
        "vit_keras.cli",
        "vit_keras.training",
        "vit_keras.weights.writer",
        "vit_keras.weights.download",
    ):
        importlib.import_module(name)


if __name__ == "__main__":
    main()
