"""The servers that are put under load, as a table, and how one is run."""

import contextlib
import dataclasses
import os
import pathlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from shutil import copytree
from typing import Any

from benchmarks.reliability import serving_mlserver, serving_triton
from benchmarks.reliability.serving_protocols import MODEL

ROOT = pathlib.Path(__file__).parents[2]
READY = 120.0  # seconds that a server may take to start


@dataclasses.dataclass(frozen=True)
class Server:
    """A kind of server.

    Attributes:
        protocol: a key of `serving_protocols.PROTOCOLS`.
        command: from (Python of its environment, folder of the models, ports of gRPC
            and HTTP) to its command line and variables of its environment.
        install: what to give to pip in an environment of its own; "" for this one.
        packages: whose versions are told.
        prepare: from (SavedModel directory, folder to make, version) on.
        announce: from the ports on, if a server must be told of a new version.
    """

    protocol: str
    command: Callable[..., tuple[list[str], dict[str, str]]]
    install: str
    packages: tuple[str, ...]
    prepare: Callable[..., Any] = lambda source, folder, _: copytree(source, folder)
    announce: Callable[..., Any] | None = None


def _tensorflow(python, models, ports):
    from export.serving.server_files import ENVIRONMENT

    return _of_all_arenas(python, models, ports)[0], ENVIRONMENT


def _of_all_arenas(python, models, ports):
    """Without what the written compose file says to the C library."""
    module = "benchmarks.reliability.serving_tensorflow"
    return [python, "-m", module, str(models / MODEL), str(ports[0])], {}


SERVERS = {
    "tensorflow": Server(
        protocol="tensorflow",
        command=_tensorflow,
        install="",
        packages=("tensorflow", "tensorflow-serving-api", "grpcio"),
    ),
    "tensorflow-all-arenas": Server(
        protocol="tensorflow",
        command=_of_all_arenas,
        install="",
        packages=("tensorflow", "tensorflow-serving-api", "grpcio"),
    ),
    "triton": Server(
        protocol="open",
        command=serving_triton.command,
        install="nvidia-pytriton==0.7.0 tensorflow-cpu==2.21.0",
        packages=("nvidia-pytriton", "tensorflow-cpu", "grpcio"),
        prepare=serving_triton.prepare,
    ),
    "mlserver": Server(
        protocol="open",
        command=serving_mlserver.command,
        install="mlserver==1.7.1 tensorflow-cpu==2.21.0",
        packages=("mlserver", "tensorflow-cpu", "grpcio"),
        prepare=serving_mlserver.prepare,
        announce=serving_mlserver.announce,
    ),
}


@dataclasses.dataclass
class Running:
    """A server that runs.

    Attributes:
        server: its row.
        python: of its environment.
        models: the folder of the model, where versions appear.
        ports: of gRPC and HTTP.
        process: the first of its processes.
    """

    server: Server
    python: str
    models: pathlib.Path
    ports: tuple[int, int]
    process: subprocess.Popen

    @property
    def address(self) -> str:
        """host:port of gRPC."""
        return f"127.0.0.1:{self.ports[0]}"

    def publish(self, saved_model, version: int) -> None:
        """Put a SavedModel directory in place as a version, at once or not at all."""
        part = self.models.parent / f"part-{version}"
        self.server.prepare(saved_model, part, version)
        part.rename(self.models / MODEL / str(version))
        if self.server.announce:
            self.server.announce(self.ports)

    def resident(self) -> float:
        """Megabytes that its processes hold."""
        parents, held = {}, {}
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                text = (path / "status").read_text()
                number = int(path.name)
                parents[number] = int(text.partition("PPid:")[2].split()[0])
                kilobytes = text.partition("VmRSS:")[2].split()
                held[number] = int(kilobytes[0]) / 1024 if kilobytes else 0.0
        mine = {self.process.pid}
        for _ in range(4):  # the children of these, and so on
            mine |= {number for number, above in parents.items() if above in mine}
        return sum(held.get(number, 0.0) for number in mine)


@contextlib.contextmanager
def running(name: str, python: str, saved_model, work: pathlib.Path):
    """A `Running` server that has one version of a model.

    Arguments:
        name: of a row of `SERVERS`.
        python: of an environment with what the row says.
        saved_model: the directory to serve as version 1.
        work: an empty folder.

    Raises:
        RuntimeError: it does not start.
    """
    server, models = SERVERS[name], work / "models"
    (models / MODEL).mkdir(parents=True)
    server.prepare(saved_model, models / MODEL / "1", 1)
    ports = _free_port(), _free_port()
    command, more = server.command(python, models, ports)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    with (work / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        until = time.time() + READY
        while not _ready(server, ports):
            if process.poll() is not None or time.time() > until:
                text = (work / "log.txt").read_text(errors="replace")
                raise RuntimeError(f"{name} did not start:\n{text[-3000:]}")
            time.sleep(0.2)
        yield Running(server, python, models, ports, process)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _ready(server, ports):
    try:
        if server.protocol == "open":
            url = f"http://127.0.0.1:{ports[1]}/v2/models/{MODEL}/ready"
            return urllib.request.urlopen(url, timeout=10).status == 200
        # It listens once its model is loaded.
        socket.create_connection(("127.0.0.1", ports[0]), 10).close()
    except OSError:
        return False
    return True
