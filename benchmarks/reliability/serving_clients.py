"""Clients of a server, in a process of their own.

    python -m benchmarks.reliability.serving_clients JOB.json RESULT.json

Each client draws a number of images, asks, compares, and begins again. With more images
than a batch it sends several requests, as the written client does. Some clients are
slow: their bytes go through a proxy that lets them drip.
"""

import base64
import collections
import concurrent.futures
import dataclasses
import json
import pathlib
import random
import socket
import sys
import threading
import time

import numpy as np

from benchmarks.reliability.serving_protocols import PROTOCOLS, Refused

BATCHES = (1, 2, 4, 8, 16, 32)
MOST = 8  # images of a request, as the written client has them
SLOW_BATCHES = (1, 2, 4)
CORRUPT = 0.1  # of the items
UNSPLIT = 0.01  # of the requests have 40 images at once, more than a batch
DRIP, PAUSE = 4096, 0.01  # bytes of a slow client, and seconds after them
TIMEOUT = 120.0
# Relative to an image's largest logit: a batch of another size sums in another order.
CLOSE = 1e-4


@dataclasses.dataclass(frozen=True)
class Job:
    """What the clients do.

    Attributes:
        protocol: a key of `PROTOCOLS`.
        address: of the server.
        items: [name, bytes in base64, whether it is valid, whether it is rare].
        answers: {version: {"logits": , "top_ids": }}, of each item alone.
        clients, slow: how many, and how many of them are slow.
        seconds: how long.
        rare: share of the requests with an item of several megabytes or megapixels.
        seed: of what they draw.
    """

    protocol: str
    address: str
    items: list
    answers: dict
    clients: int
    slow: int
    seconds: float
    rare: float
    seed: int


class Client:
    """One client, with a connection of its own.

    Arguments:
        job: the `Job`.
        number: of this client; the first are slow.
    """

    def __init__(self, job: Job, number: int):
        self.draws = random.Random(job.seed * 1000 + number)
        self.slow, self.rare = number < job.slow, job.rare
        address = dripping(job.address) if self.slow else job.address
        self.server = PROTOCOLS[job.protocol](address)
        found = [(i, base64.b64decode(item[1])) for i, item in enumerate(job.items)]
        self.contents = dict(found)
        self.valid = np.array([item[2] for item in job.items])
        self.answers = {
            int(version): {name: np.array(values) for name, values in found.items()}
            for version, found in job.answers.items()
        }
        groups = collections.defaultdict(list)
        for i, (_, _, valid, rare) in enumerate(job.items):
            groups["rare" if rare else "good" if valid else "corrupt"].append(i)
        self.groups = groups

    def rows(self, until: float):
        """Ask until a time; yield a dict for each request of a user."""
        while time.time() < until:
            if not self.slow and self.draws.random() < UNSPLIT:
                yield self.unsplit()
                continue
            size = self.draws.choice(SLOW_BATCHES if self.slow else BATCHES)
            chosen = [self.draw() for _ in range(size)]
            if not self.slow and self.draws.random() < self.rare:
                chosen[self.draws.randrange(size)] = self.draws.choice(
                    self.groups["rare"]
                )
            yield self.asked(chosen)

    def draw(self):
        kind = "corrupt" if self.draws.random() < CORRUPT else "good"
        return self.draws.choice(self.groups[kind])

    def asked(self, chosen):
        """Ask for some items in as many requests as they take; return what was said."""
        row = collections.Counter(images=len(chosen), requests=1)
        row["corrupt"] = int((~self.valid[chosen]).sum())
        row["large"] = len(set(chosen) & set(self.groups["rare"]))
        large, versions, start = 0.0, set(), time.perf_counter()
        try:
            for part in (chosen[i : i + MOST] for i in range(0, len(chosen), MOST)):
                contents = [self.contents[i] for i in part]
                version, outputs = self.server.ask(contents, TIMEOUT)
                versions.add(version)
                compared, largest = self.compared(part, version, outputs)
                row.update(compared)
                large = max(large, largest)
        except Exception as error:  # whatever it is, the user has no answer
            row["lost"] = 1
            return {**row, "error": f"{type(error).__name__}: {error}"[:300]}
        seconds = time.perf_counter() - start
        found = {"batch": len(chosen), "seconds": seconds, "slow": self.slow}
        return {**row, **found, "difference": large, "versions": sorted(versions)}

    def compared(self, part, version, outputs):
        """Counts of wrong answers, and the largest relative difference."""
        single, valid = self.answers[version], self.valid[part]
        logits, wanted = outputs["logits"][valid], single["logits"][part][valid]
        wanted = wanted.astype("float32")
        apart = np.abs(logits - wanted).max(1, initial=0)
        apart = apart / np.abs(wanted).max(1, initial=1e-9)
        ids = (outputs["top_ids"] == single["top_ids"][part]).all(1)
        wrong = (apart > CLOSE) | ~ids[valid]
        counts = collections.Counter(
            not_named=int((outputs["valid"] & ~valid).sum()),
            wrong=int(wrong.sum()) + int((~outputs["valid"] & valid).sum()),
            same_bits=int((logits == wanted).all(1).sum()),
            compared=int(valid.sum()),
        )
        return counts, float(apart.max(initial=0))

    def unsplit(self):
        """Ask for 40 images at once: right answers, or a message that says why not."""
        chosen = [self.draw() for _ in range(40)]
        row = {"unsplit": 1}
        try:
            contents = [self.contents[i] for i in chosen]
            version, outputs = self.server.ask(contents, TIMEOUT)
            counts, _ = self.compared(chosen, version, outputs)
            return {**row, **counts}
        except Refused as error:
            return {**row, "refused": 1, "message": str(error)[:300]}
        except Exception as error:
            return {**row, "lost": 1, "error": f"{type(error).__name__}: {error}"[:300]}


def dripping(address: str) -> str:
    """The address of a proxy that hands on what it gets a little at a time."""
    host, port = address.rsplit(":", 1)
    listener = socket.create_server(("127.0.0.1", 0))

    def hand_on(source, target, pause):
        with source, target:
            while piece := source.recv(DRIP):
                target.sendall(piece)
                time.sleep(pause)

    def accept():
        while True:
            client, _ = listener.accept()
            server = socket.create_connection((host, int(port)))
            for pair in ((client, server, PAUSE), (server, client, 0)):
                threading.Thread(target=hand_on, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}"


def run(job: Job) -> list[dict]:
    """Run all clients; return the rows of all requests."""
    clients = [Client(job, number) for number in range(job.clients)]
    until = time.time() + job.seconds
    with concurrent.futures.ThreadPoolExecutor(job.clients) as threads:
        found = threads.map(lambda client: list(client.rows(until)), clients)
        return [row for rows in found for row in rows]


def main():
    """Do the job in a file, and write the rows into another."""
    job, result = map(pathlib.Path, sys.argv[1:])
    rows = run(Job(**json.loads(job.read_text())))
    result.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
