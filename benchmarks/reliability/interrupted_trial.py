"""One command that is interrupted and given again, and the table of what was found."""

import collections
import csv
import dataclasses
import pathlib
import shutil
import signal
import statistics
import time

from benchmarks.machine import machine, versions, write_rows
from benchmarks.reliability.forked_run import Run, start
from benchmarks.reliability.interrupted_jobs import Job, digest

FIELDS = ("job", "fault", "times", "hit", "old or new whole", "half files")
FIELDS += ("left over", "processes left", "same command", "same result")
FIELDS += ("ends", "wrong", "seconds", "machine", "versions")
# What a command says that replaces nothing, and had finished before it was killed.
FINISHED = ("must not exist", "holds a run already", "holds a model already")
QUIET = (130, 143, -9, -2, -15)  # who sends these signals needs no words
PACKAGES = ("keras", "tensorflow", "jax", "ethos-u-vela", "tflite-micro")


@dataclasses.dataclass
class Outcome:
    """What one fault left.

    Attributes:
        hit: whether it came before the end of the work.
        end: how the process ended, in words.
        whole: whether every artefact is the old or the new one, to the last byte.
        half: other files, under names that a user sees.
        hidden: unfinished files under hidden names.
        alive: processes that outlived the command.
        same: whether the same command then gave the undisturbed result; None if it was
            not given.
        hidden_after: unfinished files that are still there then.
        clear: whether an error was one line, or a few.
        log: what the process said, for what went wrong.
    """

    hit: bool
    end: str
    whole: bool
    half: list[str]
    hidden: list[str]
    alive: int
    same: bool | None = None
    hidden_after: list[str] = dataclasses.field(default_factory=list)
    clear: bool = True
    log: str = ""


class Trials:
    """A command, with what it gives undisturbed.

    Arguments:
        name: of the job.
        job: the job.
        work: folder with `inputs`.
        rng: random numbers.
    """

    def __init__(self, name: str, job: Job, work: pathlib.Path, rng):
        self.name, self.job, self.rng, self.number = name, job, rng, 0
        self.inputs = work / "inputs"
        self.folder = work / name.replace(" ", "_")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.out, self.base = self.folder / "out", self.folder / "base"
        self.out.mkdir(parents=True)
        self.base.mkdir()
        if job.older:
            self._must(self.start("older"))
            shutil.rmtree(self.base)
            shutil.copytree(self.out, self.base)
        self.old = self.digests()
        found = []
        for _ in range(2):
            self.fresh()
            found.append(self._must(self.start()))
            new, self.published = self.digests(), self._published()
            if found[1:] and new != self.new:
                different = [key for key in new if new[key] != self.new[key]]
                print(f"{name}: two undisturbed runs differ in {different}", flush=True)
            self.new = new
        if None in self.new.values() or set(self.new.values()) & set(
            v for v in self.old.values() if v
        ):
            print(f"{name}: old {self.old}, new {self.new}", flush=True)
        self.duration = statistics.mean(run.seconds for run in found)
        self.names = {p.name for p in self.out.iterdir()}

    def start(self, model="newer", **options) -> Run:
        """Start the command."""
        self.began = time.time()
        argv = self.job.argv(self.inputs, self.out, model)
        return start(self.job.program, argv, self.folder / "log", **options)

    def _must(self, run):
        if run.wait():
            raise RuntimeError(f"{self.name} ended with {run.status}: {run.said}")
        return run

    def _published(self):
        """When the first artefact got its name, as a part of the duration, 0 to 1."""
        times = [(self.out / name).lstat().st_ctime for name in self.job.artefacts]
        return [t - self.began for t in times]

    def fresh(self) -> None:
        """Put back what was there before the command."""
        clear(self.out)
        shutil.copytree(self.base, self.out, dirs_exist_ok=True)

    def digests(self) -> dict[str, str | None]:
        """Return the hash of each artefact, None of one that is not there."""
        return {name: digest(self.out / name) for name in self.job.artefacts}

    def hidden(self) -> list[str]:
        """Return unfinished files: hidden ones, and those of a download."""
        found = [p for p in self.out.rglob(".*") if p.name != ".lock"]
        return sorted(str(p.relative_to(self.out)) for p in found)

    def look(self, run: Run, hit: bool) -> Outcome:
        """Judge what an ended process left."""
        now = self.digests()
        alive = len(run.others())
        from_old = all(now[name] == self.old[name] for name in now)
        each = all(now[name] in (self.old[name], self.new[name]) for name in now)
        all_new = all(now[name] == self.new[name] for name in now)
        whole = each and (from_old or all_new or not self.job.together)
        known = {*self.names, *self.job.notes}
        half = [p.name for p in self.out.iterdir() if p.name not in known]
        half = [name for name in half if not name.startswith(".")]
        half = [n for n in half if not n.endswith((".part", ".part.tag"))]
        said = run.said
        lines = [line for line in said.splitlines() if line.strip()]
        end = f"{run.status}"
        if run.status and run.status > 0:
            end += f" {lines[-1][:160] if lines else 'nothing said'}"
        clear = "Traceback" not in said and (run.status == 0 or len(said) < 2000)
        if run.status == -signal.SIGABRT:  # of the C library: where it was
            clear = "Fatal Python error" in said
        if run.status and not lines and run.status not in QUIET:
            clear = False
        log = "" if clear and whole and not half else said[-3000:]
        if not whole:
            log = f"old {self.old}\nnew {self.new}\nnow {now}\n{log}"
        return Outcome(
            hit, end, whole, half, self.hidden(), alive, clear=clear, log=log
        )

    def again(self, outcome: Outcome) -> Outcome:
        """Give the same command again, and judge the result.

        After kill -9 always, after other faults each third time.
        """
        self.number += 1
        if not outcome.end.startswith("-9") and self.number % 3:
            return outcome
        run = self.start()
        run.wait()
        if run.status == 2 and any(words in run.said for words in FINISHED):
            run.status = 0
        now = self.digests()
        outcome.same = run.status == 0 and now == self.new
        outcome.hidden_after = self.hidden()
        if not outcome.same:
            outcome.log += f"\n--- again: {run.status} {now}\n{run.said[-2000:]}"
        return outcome

    def row(self, fault: str, tried, times: int) -> dict:
        """Try a fault, and return a row of the table."""
        began, found = time.monotonic(), []
        for number in range(tried.times(self, times)):
            self.fresh()
            outcome = tried.try_once(self, number, times)
            found.append(outcome)
            bad = wrong(outcome, tried.may_hide)
            if bad:
                print(f"{self.name}, {fault} {number}: {bad}\n{outcome}", flush=True)
        hit = [o for o in found if o.hit]
        given = [o for o in found if o.same is not None]
        ends = collections.Counter(o.end.split(" ")[0] for o in hit)
        problems = collections.Counter(
            text for o in found for text in wrong(o, tried.may_hide)
        )
        row = {
            "job": self.name,
            "fault": fault,
            "times": len(found),
            "hit": len(hit),
            "old or new whole": sum(o.whole for o in found),
            "half files": sum(bool(o.half) for o in found),
            "left over": sum(bool(o.hidden) for o in found),
            "processes left": sum(o.alive for o in found),
            "same command": self.job.again,
            "same result": f"{sum(map(bool, (o.same for o in given)))}/{len(given)}",
            "ends": " ".join(f"{n}x{end}" for end, n in sorted(ends.items())),
            "wrong": "; ".join(f"{n}x {text}" for text, n in problems.items()),
            "seconds": round(time.monotonic() - began, 1),
        }
        print({k: row[k] for k in FIELDS[:-2]}, flush=True)
        return row


def wrong(outcome: Outcome, may_hide: bool) -> list[str]:
    """Return what is not as promised, in words.

    Arguments:
        outcome: of a fault.
        may_hide: whether unfinished files may stay under hidden names, until the same
            command removes them: nobody can remove them after kill -9.
    """
    found = [] if outcome.whole else ["artefact neither old nor new"]
    found += ["half file"] * bool(outcome.half)
    found += ["unfinished file stays"] * bool(outcome.hidden and not may_hide)
    found += ["unfinished file stays after"] * bool(outcome.hidden_after)
    found += ["process left"] * bool(outcome.alive)
    found += ["another result"] * (outcome.same is False)
    found += ["unclear error"] * (not outcome.clear)
    return found


class Table:
    """The CSV: rows made anew replace those of the same job and fault."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> list[dict[str, str]]:
        """Return the rows, none if there is no file."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def add(self, row: dict) -> None:
        """Add a row, and write the table."""
        row |= {"machine": machine(), "versions": versions(PACKAGES)}
        same = ("job", "fault")
        rows = [r for r in self.read() if any(r[key] != row[key] for key in same)]
        rows = sorted([*rows, row], key=lambda r: (r["job"], r["fault"]))
        write_rows(self.path, FIELDS, rows)


def clear(folder: pathlib.Path) -> None:
    """Empty a folder, which may be a mounted one."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
