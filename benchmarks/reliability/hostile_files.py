"""Reads damaged and hostile files with every reader, and counts what goes wrong.

Each reader gets files that are changed step by step: a change that makes our own code
run lines that no file before did is kept, and changed further. That is the feedback of
coverage-guided fuzzers; a tracer of a few lines gives it here, because the files need
changes of their own kind (`mutations.py`), and the readers a process that may crash,
hang or run out of memory, which libFuzzer's loop would end at.

A fault is an error that the reader does not document, the end of the process, more
memory or more time than the limits, or a file written outside of the folder.

    python -m benchmarks.reliability.hostile_files --inputs 3000 --seconds 60
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import threading

from benchmarks.machine import machine, versions, write_rows

from . import child
from .readers import READERS

RESULTS = pathlib.Path("benchmarks/results/reliability")
SECONDS = 20.0  # for one file of a few kB; on a busy machine
PACKAGES = ("vit-keras-edge", "keras", "tensorflow", "ai-edge-litert", "h5py", "numpy")
PACKAGES += ("pillow", "safetensors")
FIELDS = ("reader", "inputs", "seconds", "accepted", "refused", "faults", "lines")
FIELDS += ("peak_mb", "attacks", "attack_faults", "attack_peak_mb", "machine")
FIELDS += ("versions",)


def run(
    name: str,
    number: int,
    seed: int,
    base: pathlib.Path,
    kind: str,
    seconds: float = 1e9,
) -> dict:
    """Read files with a reader in child processes, and count what happens.

    Arguments:
        name: of the reader.
        number: of files.
        seed: of all that is random.
        base: folder for the files.
        kind: "fuzz", or "attacks".
        seconds: of reading, after which no more files are begun.
    """
    counts, faults = collections.Counter(), collections.Counter()
    start, peak, lines, spent = 0, 0, 0, 0.0
    base.mkdir(parents=True, exist_ok=True)
    while start < number:
        command = [sys.executable, "-m", child.__name__, name, str(start), str(number)]
        process = subprocess.Popen(
            [*command, str(seed), str(base), kind],
            stdout=subprocess.PIPE,
            text=True,
            cwd=child.ROOT,
        )
        at, words = None, ""
        for row in answers_of(process):
            if "broken" in row:
                faults[f"a whole file: {row['broken']}"] += 1
            elif "begins" in row:
                at, words = row["begins"], row["words"]
            else:
                at, start = None, row["ends"] + 1
                verdict, text = row["verdict"], row["text"]
                if verdict != "fault" and row["seconds"] > SECONDS:
                    verdict, text = "fault", f"{row['seconds']:.0f} s"
                counts[verdict] += 1
                if verdict == "fault":
                    faults[f"{words}: {text}" if words else text] += 1
                peak, lines = max(peak, row["mb"]), max(lines, row["lines"])
                spent += row["seconds"]
                if spent > seconds:
                    process.kill()
                    number = start
                    break
        code = process.wait()
        process.stdout.close()  # pyright: ignore[reportOptionalMemberAccess]
        if start < number:
            if at is None:
                raise RuntimeError(
                    f"{name}: the process ended with {code} before a file"
                )
            text = "no end" if code == -9 else f"the process ended: {code}"
            path = base / "inside" / READERS[name].file
            if path.is_file() and kind == "fuzz":
                child.keep_fault(base, at, path, text)
            counts["fault"] += 1
            faults[f"{words}: {text}" if words else text] += 1
            start = at + 1
    for text, count in faults.most_common():
        print(f"  {name}: {count} x {text}", flush=True)
    return {
        **{"accepted": counts["accepted"], "refused": counts["refused"]},
        **{"faults": counts["fault"], "lines": lines, "peak_mb": peak},
        **{"inputs": counts.total(), "seconds": round(spent, 1)},
    }


def answers_of(process):
    """Yield the lines of a child; it is ended if the next one does not come."""
    timer = threading.Timer(300, process.kill)  # to load all modules
    timer.start()
    for line in process.stdout:
        timer.cancel()
        yield json.loads(line)
        timer = threading.Timer(3 * SECONDS, process.kill)
        timer.start()
    timer.cancel()


def row_of(
    name: str, inputs: int, seconds: float, seed: int, base: pathlib.Path
) -> dict:
    """Return a reader's row of the table."""
    from .attack_table import ATTACKS

    number = sum(row.reader == name for row in ATTACKS)
    found = run(name, inputs, seed, base / "fuzz", "fuzz", seconds)
    attacked = run(name, number, seed, base / "attacks", "attacks")
    return {
        **{"reader": name, "attacks": number, **found},
        **{"attack_faults": attacked["faults"], "attack_peak_mb": attacked["peak_mb"]},
        **{"machine": machine(), "versions": versions(PACKAGES)},
    }


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=pathlib.Path, default=RESULTS / "hostile_files.csv"
    )
    parser.add_argument("--inputs", type=int, default=3000, help="for each reader")
    parser.add_argument("--seconds", type=float, default=60, help="of reading")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", help="only these")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for faulty files")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        base, rows = options.keep or pathlib.Path(folder), []
        for name in options.reader or READERS:
            place = base / "".join(c if c.isalnum() else "_" for c in name)
            rows.append(
                row_of(name, options.inputs, options.seconds, options.seed, place)
            )
            print({k: rows[-1].get(k) for k in FIELDS[:-2]}, flush=True)
            write_rows(options.out, FIELDS, rows)


if __name__ == "__main__":
    main()
