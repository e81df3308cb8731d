"""Reading of hostile files in a process that may crash, hang or run out of memory.

    python -m benchmarks.reliability.child READER START END SEED FOLDER KIND

It prints a line of JSON before and after each file.
"""

import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import sys
import time
import traceback
import warnings

from benchmarks.machine import forget_peak, resident

from .mutations import mutate
from .readers import READERS
from .seed_files import write

ROOT = pathlib.Path(__file__).parents[2]
MEGABYTES = 512  # above what the process had before it read the file
ADDRESSES = 8 << 30  # bytes that it may ask for at all


class Lines:
    """A tracer: the lines of this project that ran, as a set."""

    def __init__(self):
        self.seen: set[tuple[str, int]] = set()
        self.folders = tuple(
            f"{ROOT / name}{os.sep}" for name in ("vit_keras", "export")
        )

    def __call__(self, frame, event, _):
        return self.line if frame.f_code.co_filename.startswith(self.folders) else None

    @contextlib.contextmanager
    def traced(self):
        """Note the lines that run meanwhile, in this thread."""
        sys.settrace(self)
        yield
        sys.settrace(None)

    def line(self, frame, event, _):
        """Note a line; returns itself, as `sys.settrace` needs it."""
        self.seen.add((frame.f_code.co_filename, frame.f_lineno))
        return self.line


def judge(reader, folder: pathlib.Path) -> tuple[str, str]:
    """Read a file; return ("accepted", "refused" or "fault", what happened)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(folder)
    except reader.errors as error:
        return "refused", type(error).__name__
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if "vit_keras" in f.filename or "export" in f.filename]
        own = [f for f in own if "site-packages" not in f.filename] or frames
        where = f"{pathlib.Path(own[-1].filename).name}:{own[-1].lineno}"
        return "fault", f"{type(error).__name__} in {where}: {str(error)[:120]!r}"
    return "accepted", ""


def work(name: str, start: int, end: int, seed: int, base: pathlib.Path, kind: str):
    """Read files one after another, in this process.

    Arguments:
        name: of the reader.
        start, end: numbers of the first file, and of the last and one.
        seed: of all that is random.
        base: folder for the files, and for those that are kept.
        kind: "fuzz", or "attacks".
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(base / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)

    def say(**row):
        print(json.dumps(row), file=answers)

    reader, lines = READERS[name], Lines()
    for make in reader.files:  # whole files, which also load all modules
        with emptied(base) as (folder, _):
            write(make(), folder)
            found = judge(reader, folder)
            with lines.traced():
                judge(reader, folder)
        if found[0] != "accepted":
            say(broken=found[1])
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, used + ADDRESSES))
    cases = Attacks(name) if kind == "attacks" else Corpus(reader, base, seed)
    for number in range(start, end):
        with emptied(base) as (folder, outside):
            words, refused = cases.make(number, folder, outside)
            there, known = listing(outside), len(lines.seen)
            say(begins=number, words=words)
            forget_peak()
            before, began = resident("VmHWM"), time.monotonic()
            with lines.traced():
                verdict, text = judge(reader, folder)
            seconds = time.monotonic() - began
            grown = (resident("VmHWM") - before) >> 20
            if listing(outside) != there:
                verdict, text = "fault", "a file outside was changed"
            elif verdict == "accepted" and refused:
                verdict, text = "fault", "accepted"
            elif verdict != "fault" and grown > MEGABYTES:
                verdict, text = "fault", f"{grown // 100 * 100} MB"
            if len(lines.seen) > known:
                cases.keep(number, folder)
            if verdict == "fault" and kind == "fuzz":
                keep_fault(base, number, folder / reader.file, text)
        say(
            **{"ends": number, "verdict": verdict, "text": text, "seconds": seconds},
            **{"mb": grown, "lines": len(lines.seen)},
        )
    os._exit(0)  # threads of libraries may not end


class Corpus:
    """Changed files of a reader; those that made new lines run are changed further.

    Arguments:
        reader: of the files.
        base: folder that they are kept in, for another process.
        seed: of all that is random.
    """

    MOST = 500  # files that are kept

    def __init__(self, reader, base: pathlib.Path, seed: int):
        self.reader, self.seed, self.kept = reader, seed, base / "kept"
        self.kept.mkdir(exist_ok=True)
        self.wholes = [make() for make in reader.files]
        self.files = [(i, files[reader.file]) for i, files in enumerate(self.wholes)]
        for path in sorted(self.kept.iterdir()):
            self.files.append((int(path.name.split("-")[1]), path.read_bytes()))
        self.which = 0

    def make(self, number, folder, outside):
        """Write a changed file beside the whole ones of its folder."""
        draw = random.Random(f"{self.seed} {self.reader.name} {number}")
        most = len(self.files if draw.random() < 0.7 else self.wholes)
        self.which, content = self.files[draw.randrange(most)]
        content = mutate(content, self.reader.kind, draw)[: 4 << 20]
        write({**self.wholes[self.which], self.reader.file: content}, folder)
        return "", False

    def keep(self, number, folder):
        """Keep the file for further changes."""
        if len(self.files) < self.MOST:
            content = (folder / self.reader.file).read_bytes()
            self.files.append((self.which, content))
            (self.kept / f"{number:06d}-{self.which}").write_bytes(content)


class Attacks:
    """The attacks on a reader, by name."""

    def __init__(self, name):
        from .attack_table import ATTACKS

        self.rows = [row for row in ATTACKS if row.reader == name]

    def make(self, number, folder, outside):
        """Write the files of an attack."""
        row = self.rows[number]
        row.make(folder, outside)
        return row.name, row.refused

    def keep(self, number, folder):
        """Nothing is kept."""


def listing(folder):
    """Return the files in a folder, with their contents."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def keep_fault(base, number, file, text):
    """Keep a file that a fault was found with."""
    (base / "faults").mkdir(exist_ok=True)
    shutil.copy(file, base / "faults" / f"{number:06d}")
    (base / "faults" / f"{number:06d}.txt").write_text(text)


@contextlib.contextmanager
def emptied(base):
    """Give two empty folders, and remove them afterwards."""
    folders = base / "inside", base / "outside"
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    yield folders
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    name, start, end, seed, base, kind = sys.argv[1:]
    work(name, int(start), int(end), int(seed), pathlib.Path(base), kind)
