"""What servers of a SavedModel do under load: answers, memory, time, and new versions.

    python -m benchmarks.reliability.serving_under_load [--seconds 600]
        [--servers tensorflow] [--python triton=/path/to/bin/python]

Servers other than the first need an environment of their own, of Python 3.11:

    python -m venv triton && triton/bin/pip install nvidia-pytriton==0.7.0 \\
        tensorflow-cpu==2.21.0
    python -m venv mlserver && mlserver/bin/pip install mlserver==1.7.1 \\
        tensorflow-cpu==2.21.0

Clients draw images of many sizes and formats, 1 to 32 at a time, a tenth of them
corrupt, now and then a very large one, or more at once than a batch; some let their
bytes drip. Each answer is compared with that of the image alone, from a session of the
same SavedModel. Then the same clients go on while a second and a third version are put
in place.

Rows of the CSV replace those of the same server. Times are of the clients; of a batch
above 8 they are of several requests. Memory is of all processes of the server, its
slope by least squares over the load and over its second half. Before that is a tenth
of its time in which half of the requests have a very large item: TensorFlow's allocator
keeps what it once had, so that memory can only be flat behind the worst. What glibc
keeps besides grows ever more slowly; `tests/export/test_serving_load.py` has what is in
use.
"""

import argparse
import base64
import collections
import csv
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np  # noqa: E402

from benchmarks.machine import machine, write_rows  # noqa: E402
from benchmarks.reliability.serving_clients import BATCHES, Job  # noqa: E402
from benchmarks.reliability.serving_items import Item, items  # noqa: E402
from benchmarks.reliability.serving_servers import ROOT, SERVERS, running  # noqa: E402

OUT = pathlib.Path("benchmarks/results/reliability/serving_under_load.csv")
COUNTS = (
    *("images", "corrupt", "large", "lost", "wrong", "not_named", "compared"),
    *("same_bits", "unsplit", "refused"),
)
FIELDS = (
    *("server", "phase", "seconds", "clients", "batch", "requests", *COUNTS),
    *("largest_difference", "p50_s", "p95_s", "p99_s"),
    *("rss_mb", "rss_most_mb", "mb_per_minute", "late_mb_per_minute", "answered_by"),
    *("machine", "versions"),
)
RARE, WARM_RARE = 0.01, 0.5  # of the requests have a very large item


@dataclasses.dataclass
class Load:
    """What is put on a server.

    Attributes:
        models: SavedModel directories, by version from 1 on.
        sent: `Item`s.
        seconds: of the load.
        changing: seconds after that, while new versions are put in place.
        clients, slow: how many, and how many of them are slow.
        seed: of what they draw.
    """

    models: list[pathlib.Path]
    sent: list[Item]
    seconds: float = 600.0
    changing: float = 120.0
    clients: int = 16
    slow: int = 2
    seed: int = 0

    @functools.cached_property
    def answers(self) -> dict:
        """{version: what `single_answers` returns}."""
        pairs = enumerate(self.models, 1)
        return {i: single_answers(path, self.sent) for i, path in pairs}

    def job(self, protocol: str, address: str, seconds: float, rare=RARE) -> Job:
        """What clients of a server do for some seconds."""
        packed = [
            [i.name, base64.b64encode(i.content).decode(), i.valid, i.rare]
            for i in self.sent
        ]
        return Job(
            *(protocol, address, packed, self.answers),
            *(self.clients, self.slow, seconds, rare, self.seed),
        )


def single_answers(path, sent) -> dict:
    """{output: [of each item]} of a SavedModel, each item in a request of its own."""
    from export.evaluation.saved_model_session import SavedModelSession

    session, found = SavedModelSession(path), {"logits": [], "top_ids": []}
    for item in sent:
        value = np.array([item.content], object)
        outputs = session.run("predict_bytes", {"image_bytes": value}, found)
        for name, values in found.items():
            values.append(outputs[name][0].tolist())
    session.session.close()
    return found


def under_load(name: str, python: str, load: Load, work: pathlib.Path) -> list[dict]:
    """Rows of a server under load, then with new versions.

    Arguments:
        name: of a row of `SERVERS`.
        python: of its environment.
        load: what is put on it.
        work: an empty folder.
    """
    with running(name, python, load.models[0], work) as server:
        seconds = load.seconds / 10
        found = asked(server, load, seconds, work, WARM_RARE)
        rows = phase(found, name, "warm-up", load, seconds)[:1]
        memory = Memory(server)
        found = asked(server, load, load.seconds, work)
        whole, *others = phase(found, name, "load", load, load.seconds)
        rows += [{**whole, **memory.stop()}, *others]
        seconds = load.changing
        swaps = [
            threading.Timer(
                seconds * i / len(load.models), server.publish, (path, i + 1)
            )
            for i, path in enumerate(load.models)
            if i
        ]
        for swap in swaps:
            swap.start()
        found = asked(server, load, seconds, work)
        for swap in swaps:
            swap.join()
        rows += phase(found, name, "new versions", load, seconds)[:1]
    return rows


def asked(server, load: Load, seconds, work: pathlib.Path, rare=RARE) -> list[dict]:
    """Run the clients of a server in a process of its environment."""
    job = load.job(server.server.protocol, server.address, seconds, rare)
    file, result = work / "job.json", work / "result.json"
    file.write_text(json.dumps(dataclasses.asdict(job)))
    module = "benchmarks.reliability.serving_clients"
    subprocess.run(
        [server.python, "-m", module, str(file), str(result)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    return json.loads(result.read_text())


class Memory:
    """Samples of a server's memory, each second, until `stop`."""

    def __init__(self, server):
        self.samples: list[tuple[float, float]] = []
        self._server, self._end = server, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self):
        while not self._end.wait(1.0):
            self.samples.append((time.time(), self._server.resident()))

    def stop(self) -> dict:
        """End the sampling; return the mean, the most, and the slopes of the whole and
        of its second half."""
        self._end.set()
        self._thread.join()
        times, held = np.array(self.samples).T
        whole, late = (
            np.polyfit(times[start:] / 60 - times[0] / 60, held[start:], 1)[0]
            for start in (0, len(times) // 2)
        )
        return {
            "rss_mb": f"{held.mean():.0f}",
            "rss_most_mb": f"{held.max():.0f}",
            "mb_per_minute": f"{whole:.2f}",
            "late_mb_per_minute": f"{late:.2f}",
        }


def phase(found: list[dict], name: str, label: str, load: Load, seconds) -> list[dict]:
    """Rows of the CSV: one of all requests, and one of each number of images."""
    errors = {row["error"] for row in found if "error" in row}
    for error in sorted(errors)[:5]:
        print("lost:", error, flush=True)
    for message in sorted({row["message"] for row in found if "message" in row})[:2]:
        print("refused:", message, flush=True)
    known = {"server": name, "phase": label, "seconds": f"{seconds:.0f}"}
    known |= {"clients": load.clients}
    slow = [row for row in found if row.get("slow")]
    parts: dict = {"": found, "slow clients": slow}
    for batch in BATCHES:
        parts[batch] = [r for r in found if r.get("batch") == batch and not r["slow"]]
    return [{**known, "batch": b, **summary(part)} for b, part in parts.items()]


def summary(found: list[dict]) -> dict:
    """Counts and times of some requests."""
    counts = {name: sum(row.get(name, 0) for row in found) for name in COUNTS}
    times = [row["seconds"] for row in found if "seconds" in row]
    answered = collections.Counter(v for row in found for v in row.get("versions", ()))
    largest = max((row.get("difference", 0.0) for row in found), default=0.0)
    quantiles = np.quantile(times, (0.5, 0.95, 0.99)) if times else ()
    names = ("p50_s", "p95_s", "p99_s")
    return {
        "requests": len(found),
        **counts,
        "largest_difference": f"{largest:.1e}",
        **{name: f"{value:.3f}" for name, value in zip(names, quantiles, strict=False)},
        "answered_by": " ".join(f"{v}:{n}" for v, n in sorted(answered.items())),
    }


def models(folder: pathlib.Path, number=3, warmup=(1, 2, 4, 8), **sizes) -> list:
    """Export some models that differ in their weights alone; return the directories."""
    import export
    from tests.models import exported

    found = [folder / str(seed) for seed in range(1, number + 1)]
    for seed, path in enumerate(found):
        model = exported(seed, **sizes)
        export.to_saved_model(
            model, path, signatures=["predict_bytes"], warmup=warmup, top_k=3
        )
    return found


def main():
    """Put the named servers under load, and merge their rows into the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", default="tensorflow", help=", ".join(SERVERS))
    parser.add_argument(
        "--python", nargs="*", default=[], help="SERVER=PYTHON of its environment"
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--changing", type=float, default=120.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    given = parser.parse_args()
    pythons = dict(pair.split("=", 1) for pair in given.python)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        size = {"image_size": 64, "patch_size": 16, "num_layers": 12}
        size |= {"hidden_size": 192, "num_heads": 3, "mlp_dim": 768}  # ViT-Ti/16
        load = Load(models(work, **size), items(), given.seconds, given.changing)
        load.clients, load.seed = given.clients, given.seed
        for name in given.servers.split(","):
            place = work / name
            place.mkdir()
            rows = under_load(name, pythons.get(name, sys.executable), load, place)
            for row in rows:
                print({k: v for k, v in row.items() if v not in ("", 0)}, flush=True)
            save(given.out, name, pythons.get(name, sys.executable), rows)


def save(path: pathlib.Path, name: str, python: str, rows: list[dict]) -> None:
    """Put a server's rows in the place of those that the table has."""
    ask = f"from benchmarks.machine import *; print(versions({SERVERS[name].packages}))"
    done = subprocess.run(
        [python, "-c", ask], cwd=ROOT, check=True, capture_output=True, text=True
    )
    told = {"machine": machine(), "versions": done.stdout.strip()}
    old = list(csv.DictReader(path.open(newline=""))) if path.exists() else []
    kept = [row for row in old if row["server"] != name]
    write_rows(path, FIELDS, [*kept, *({**row, **told} for row in rows)])


if __name__ == "__main__":
    main()
