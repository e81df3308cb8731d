"""Faults in the middle of work: what happens, when, and what may stay behind."""

import contextlib
import dataclasses
import errno
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from benchmarks.reliability.forked_run import start_faked
from benchmarks.reliability.interrupted_trial import Outcome, Trials

MB = 2**20
CHILDREN = ("report", "compile", "c-array")  # jobs that start processes
MEMORY = (16, 64, 160, 320, 640, 1200)  # MB


@dataclasses.dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        try_once: function of trials, number and times; returns an `Outcome`.
        may_hide: whether hidden unfinished files may stay until the same command.
        jobs: those it can happen to; None is all.
        most: number of different cases, or None for as many as wanted.
    """

    try_once: Callable[[Any, int, int], Outcome]
    may_hide: bool = False
    jobs: tuple[str, ...] | None = None
    most: Callable[[Trials], int] | int | None = None

    def applies(self, job: str) -> bool:
        """Return whether it can happen to a job."""
        return self.jobs is None or job in self.jobs

    def times(self, trials, wanted: int) -> int:
        """Return how often it is tried."""
        most = self.most(trials) if callable(self.most) else self.most
        return wanted if most is None else min(most, wanted)


def moment(trials, number, times):
    """Seconds after the start: half of them anywhere, half near the publication."""
    if number % 2 == 0:
        share = (number + trials.rng.random()) / times
        return share * trials.duration
    when = trials.rng.choice(trials.published)
    return max(0.0, trials.rng.gauss(when, 0.04 * trials.duration))


def signalled(kind):
    """Return a fault: a signal at a random moment."""

    def try_once(trials, number, times):
        run = trials.start()
        time.sleep(moment(trials, number, times))
        run.send(kind)
        run.wait()
        status = run.status
        hit = status == -kind or status == 128 + kind
        outcome = trials.look(run, hit)
        if kind != signal.SIGKILL and status not in (0, 128 + kind):
            outcome.clear = False
            outcome.log = outcome.log or run.said[-3000:]
        if kind == signal.SIGKILL:
            outcome.clear = True
        return trials.again(outcome)

    return try_once


def count_steps(what):
    """Return a function of trials: how many operations on files can have a fault."""

    def count(trials) -> int:
        steps = trials.out.with_suffix(".steps")
        steps.unlink(missing_ok=True)
        trials.fresh()
        trials.start(at_step=(0, what, trials.out)).wait()
        return len(steps.read_text().splitlines())

    return functools.cache(count)


def at_step(what, may_hide=False):
    """Return a fault at an operation on files: all of them, or evenly spread."""
    count = count_steps(what)

    def try_once(trials, number, times):
        total = count(trials)
        tried = min(total, times)
        # The last ones publish: every second trial is there.
        chosen = total - number // 2 if number % 2 else 1 + number * total // tried
        chosen = number + 1 if total <= times else max(1, chosen)
        trials.fresh()
        run = trials.start(at_step=(chosen, what, trials.out))
        run.wait()
        outcome = trials.look(run, run.status != 0)
        if what == "kill":
            outcome.clear = True
        return trials.again(outcome)

    return Fault(try_once, may_hide, most=count)


@contextlib.contextmanager
def mounted(folder: pathlib.Path, options: str):
    """Mount a tmpfs on a folder, with what is in it."""
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True)
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield
    finally:
        shutil.rmtree(kept)
        subprocess.run(["umount", "-l", str(folder)], check=True)


def used(folder: pathlib.Path) -> int:
    """Return bytes of whole pages that a folder takes."""
    files = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
    return sum(-(-size // 4096) * 4096 for size in files)


def full_disk(trials, number, times):
    """A disk that has room for a part of what is written."""
    old = used(trials.out)
    need = max(used(trials.base), 64 * 1024) * 4
    size = old + 8192 + int(need * ((number + 0.5) / times) ** 2)
    with mounted(trials.out, f"size={size // 4096 * 4096}"):
        run = trials.start()
        run.wait()
        outcome = trials.look(run, run.status != 0)
    # With room again, it must work.
    return trials.again(outcome)


def full_temporary(trials, number, times):
    """TMPDIR without room, or with little."""
    folder = trials.folder / "tmp"
    folder.mkdir(exist_ok=True)
    before = os.environ.get("TMPDIR")
    size = 4096 * (1 + 8**number)
    with mounted(folder, f"size={size}"):
        (folder / "fill").write_bytes(b"x" * 4096)
        os.environ["TMPDIR"] = str(folder)
        try:
            run = trials.start()
            run.wait()
        finally:
            del os.environ["TMPDIR"]
            if before:
                os.environ["TMPDIR"] = before
    outcome = trials.look(run, run.status != 0)
    return trials.again(outcome)


def read_only(trials, number, times):
    """The folder of results on a disk that is mounted for reading only."""
    with mounted(trials.out, "size=256m"):
        command = ["mount", "-o", "remount,ro", str(trials.out)]
        subprocess.run(command, check=True)
        run = trials.start()
        run.wait()
        outcome = trials.look(run, run.status != 0)
        if run.status == 0:
            outcome.clear, outcome.log = False, f"it wrote: {run.said}"
    return trials.again(outcome)


def little_memory(trials, number, times):
    """Less address space than the work needs."""
    run = trials.start(memory=MEMORY[number] * MB)
    run.wait()
    outcome = trials.look(run, run.status != 0)
    return trials.again(outcome)


def two_at_once(trials, number, times):
    """The same command twice, at the same moment or a little later."""
    first = trials.start()
    time.sleep(trials.rng.random() * trials.duration * (number % 3) / 2)
    second = trials.start()
    second.log = second.log.with_name("log")
    statuses = first.wait(), second.wait()
    outcome = trials.look(second, True)
    outcome.end = f"{statuses[0]}+{statuses[1]}"
    ended = all(status in (0, 2) for status in statuses) and 0 in statuses
    outcome.whole = outcome.whole and trials.digests() == trials.new and ended
    outcome.log = outcome.log or ("" if outcome.whole else second.said[-3000:])
    return trials.again(outcome)


def children(run) -> list[int]:
    """Return the processes that a run has started."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == run.pid and fields[0] != "Z":
                found.append(int(path.name))
    return found


def killed_child(trials, number, times):
    """kill -9 of a process that the command has started, alone."""
    run = trials.start()
    skip, seen, killed = number % 3, set(), False
    while run.wait(0) is None and not killed:
        for pid in children(run):
            seen.add(pid)
            if len(seen) > skip or trials.name != "report":
                time.sleep(trials.rng.random() * 0.2)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed = True
                break
        time.sleep(0.005)
    run.wait()
    outcome = trials.look(run, run.status != 0)
    return trials.again(outcome)


def clock_jump(trials, number, times):
    """The clock jumps by hours in the middle of work, which is killed later."""
    clock = trials.folder / "clock"
    clock.write_text("+0")
    argv = trials.job.argv(trials.inputs, trials.out)
    log = trials.folder / "log"
    run = start_faked(trials.job.program, argv, log, clock)
    begun = time.monotonic()  # imports take most of a new process: until it writes
    while not list(trials.out.rglob(".partial-*")) and run.wait(0) is None:
        time.sleep(0.005)
    clock.write_text(("-6h", "+6h")[number % 2])
    time.sleep(trials.duration * trials.rng.random() if number >= 2 else 0)
    if number >= 2:
        run.send(signal.SIGKILL)
    run.wait(300 + begun - run.began)
    outcome = trials.look(run, True)
    if number >= 2:
        outcome.clear = True
    else:
        outcome.same = run.status == 0 and trials.digests() == trials.new
        return outcome
    return trials.again(outcome)


FAULTS = {
    "kill -9": Fault(signalled(signal.SIGKILL), may_hide=True),
    "kill -9 at a file operation": at_step("kill", may_hide=True),
    "full at a file operation": at_step(errno.ENOSPC),
    "Ctrl-C": Fault(signalled(signal.SIGINT), most=10),
    "SIGTERM": Fault(signalled(signal.SIGTERM), most=10),
    "full disk": Fault(full_disk, most=6),
    "full TMPDIR": Fault(full_temporary, most=3),
    "read-only": Fault(read_only, most=1),
    "little memory": Fault(little_memory, may_hide=True, most=len(MEMORY)),
    "two at once": Fault(two_at_once, most=3),
    "clock jump": Fault(clock_jump, True, jobs=("tflite", "train", "report"), most=4),
    "child killed": Fault(killed_child, jobs=CHILDREN, most=4),
}
