"""A command in a process that is forked from this one, which has imported everything:
a run takes the time of its work, without the seconds of TensorFlow's import."""

import contextlib
import dataclasses
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

PACKAGES = {"vit-export": "export", "vit-keras": "vit_keras"}
REMOTE_URL = "VIT_KERAS_TRIED_URL"


@dataclasses.dataclass
class Run:
    """A started process.

    Attributes:
        pid: of it; it leads a process group.
        log: file of what it writes to stdout and stderr.
        began: on the monotonic clock.
        status: exit code, or minus the signal that ended it; None while it runs.
        seconds: from start to end.
    """

    pid: int
    log: pathlib.Path
    began: float
    status: int | None = None
    seconds: float = 0.0

    def wait(self, limit: float = 300.0) -> int | None:
        """Wait for the end; return the status, or None if it still runs."""
        while self.status is None and time.monotonic() - self.began < limit:
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(code)
                self.seconds = time.monotonic() - self.began
                break
            time.sleep(0.002)
        return self.status

    def send(self, number: int) -> None:
        """Send a signal to the process alone, if it still runs."""
        if self.wait(0) is None:
            os.kill(self.pid, number)

    def others(self) -> list[int]:
        """Return processes of its group that outlive it by two seconds; end them."""
        until = time.monotonic() + 2
        while (alive := self._alive()) and time.monotonic() < until:
            time.sleep(0.05)
        for pid in alive:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return alive

    def _alive(self):
        found = [int(p.name) for p in pathlib.Path("/proc").glob("[0-9]*")]
        alive = []
        for pid in found:
            with contextlib.suppress(OSError):
                state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
                if os.getpgid(pid) == self.pid and state.split()[0] != "Z":
                    alive.append(pid)
        return alive

    @property
    def said(self) -> str:
        """What it wrote."""
        return self.log.read_text(errors="replace")


def start(program, argv, log, *, memory=None, at_step=None) -> Run:
    """Start a command.

    Arguments:
        program: "vit-export", "vit-keras" or "fetch".
        argv: its arguments.
        log: file for stdout and stderr.
        memory: bytes of address space that it may use beyond what it has now.
        at_step: (number, what, folder): at this operation on files of the folder, the
            first is 1, what happens: "kill", or an error number that it fails with,
            unless it removes; 0 only lists them, in `folder.steps`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    began = time.monotonic()
    pid = os.fork()
    if pid:
        return Run(pid, log, began)
    status = 70
    try:
        os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        if memory is not None:
            size = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
            limit = size * resource.getpagesize() + memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        if at_step is not None:
            fail_at_step(*at_step)
        sys.argv = [program, *argv]
        status = _main(program)
    except SystemExit as error:
        code = error.code
        status = code if isinstance(code, int) else 0 if code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def start_faked(program, argv, log, clock: pathlib.Path) -> Run:
    """Start a command in a new process whose clock libfaketime sets.

    Arguments:
        program, argv, log: as for `start`.
        clock: file with the difference to the true time, as "-6h"; it can change.

    Raises:
        FileNotFoundError: faketime is not installed.
    """
    (library,) = pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    faked = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock)}
    faked |= {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    main = f"{PACKAGES[program]}.cli"
    code = f"import sys; from {main} import main; sys.argv[0] = {program!r}; main()"
    began = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *argv],
            env={**os.environ, **faked},
            stdout=file,
            stderr=file,
            process_group=0,
        )
    return Run(process.pid, log, began)


def _main(program):
    if program == "vit-export":
        from export.cli import main
    elif program == "vit-keras":
        from vit_keras.cli import main
    elif program == "inputs":
        main = _inputs
    else:
        main = _fetch
    main()
    return 0


def _inputs():
    from benchmarks.reliability.interrupted_jobs import make_inputs

    make_inputs(pathlib.Path(sys.argv[1]))


@dataclasses.dataclass(frozen=True)
class Remote:
    """A file of the local server, as a row of the published ones."""

    url: str
    sha256: str
    licence: str = "none"
    paper: str = "none"


def _fetch():
    from vit_keras.cli.program import run_program
    from vit_keras.weights import download

    row = Remote(os.environ[REMOTE_URL], os.environ["VIT_KERAS_SHA256"])
    table = {"remote": row}
    run_program(
        lambda **_: download.fetch("remote", cache=sys.argv[1], table=table), "fetch"
    )


# Operations that change files, as Python's audit events name them.
EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}
REMOVALS = {"os.remove", "os.rmdir"}  # which need no room


def fail_at_step(number: int, what: "str | int", folder: pathlib.Path) -> None:
    """Have this process killed, or an operation fail, at one of its changes of files.

    Arguments are those of `start`'s `at_step`.
    """
    count, inside, steps = 0, os.fspath(folder), folder.with_suffix(".steps")

    def hook(event, arguments):
        nonlocal count
        if event == "open":
            path, mode, flags = arguments
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in EVENTS or (what != "kill" and event in REMOVALS):
            return
        if inside not in str(arguments[0]):
            # `shutil.rmtree` removes by a name in an open folder: counted all the same
            if event not in REMOVALS or "/" in str(arguments[0]):
                return
        if str(arguments[0]).endswith(".steps"):
            return
        count += 1
        if not number:
            with open(steps, "a") as file:
                file.write(f"{event} {arguments[0]}\n")
        elif count == number:
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(int(what), os.strerror(int(what)), str(arguments[0]))

    sys.addaudithook(hook)
