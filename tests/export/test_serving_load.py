"""A server of the SavedModel under load: nothing lost, nothing wrong, memory flat."""

import shutil
import sys
import threading

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)
import grpc

from benchmarks.reliability.serving_clients import Client
from benchmarks.reliability.serving_items import items
from benchmarks.reliability.serving_protocols import Refused, TensorFlowServing
from benchmarks.reliability.serving_servers import SERVERS
from benchmarks.reliability.serving_tensorflow import Versions, listening
from benchmarks.reliability.serving_under_load import Load, models, under_load


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    return models(tmp_path_factory.mktemp("exports"), 2, num_layers=1)


@pytest.fixture
def folder(exports, tmp_path):
    shutil.copytree(exports[0], tmp_path / "vit" / "1")
    return tmp_path / "vit"


def test_new_versions_under_load(exports, folder):
    """Each answer is right for the version that it names; none is lost."""
    sent = [item for item in items(320) if not item.rare]
    load, versions, found = Load(exports, sent), Versions(folder), []
    with listening(versions) as address:
        job = load.job("tensorflow", address, 0)
        job.answers[3] = job.answers[1]
        ends = threading.Event()

        def ask(number):
            client = Client(job, number)
            while not ends.is_set():
                chosen = [client.draw() for _ in range(client.draws.choice((1, 3, 8)))]
                found.append(client.asked(chosen))

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(2, 6)]
        for thread in threads:
            thread.start()
        for number, source in ((2, exports[1]), (3, exports[0])):
            shutil.copytree(source, folder.parent / "part")
            (folder.parent / "part").rename(folder / str(number))
            versions.refresh()
        ends.wait(1)
        ends.set()
        for thread in threads:
            thread.join()
        with grpc.insecure_channel(address):
            server = TensorFlowServing(address)
            with pytest.raises(Refused, match="larger than maximum"):
                server.ask([b""] * 9, 60)
    assert not [row for row in found if "error" in row]
    assert sum(row["wrong"] + row["not_named"] for row in found) == 0
    assert sum(row["corrupt"] for row in found) > 0
    assert {version for row in found for version in row["versions"]} == {1, 2, 3}
    with pytest.raises(LookupError, match="version 1"):
        versions.using(1).__enter__()


def test_client_sees_what_is_wrong(exports):
    """What the counts of the table are made of."""
    sent = [item for item in items(64) if not item.rare]
    job = Load(exports[:1], sent).job("tensorflow", "127.0.0.1:9", 0)
    client, part = Client(job, 2), [0, 1, len(sent) - 1]
    single = client.answers[1]
    outputs = {name: np.array(values[part]) for name, values in single.items()}
    outputs["logits"] = outputs["logits"].astype("float32")
    outputs["valid"] = np.array([True, True, False])
    right, apart = client.compared(part, 1, outputs)
    assert right["wrong"] == right["not_named"] == 0 and apart == 0
    assert right["compared"] == right["same_bits"] == 2
    outputs["logits"][0] *= 1.001
    assert client.compared(part, 1, outputs)[0]["wrong"] == 1
    outputs["top_ids"][1] += 1
    assert client.compared(part, 1, outputs)[0]["wrong"] == 2
    outputs["valid"][:] = True
    assert client.compared(part, 1, outputs)[0]["not_named"] == 1
    assert client.asked([0])["lost"] == 1  # nothing listens there


@pytest.mark.slow
def test_load_of_sixteen_clients(exports, tmp_path):
    load = Load(exports, items(640), seconds=20, changing=60)
    rows = under_load("tensorflow", sys.executable, load, tmp_path)
    for row in rows:
        assert row["lost"] == row["wrong"] == row["not_named"] == 0, row
    whole, last = rows[1], rows[-1]
    assert whole["requests"] > 50 and whole["corrupt"] > 20
    assert float(whole["largest_difference"]) < 1e-5
    assert "1:" in last["answered_by"] and "2:" in last["answered_by"]


def test_servers_say_how_they_are_installed():
    """In the script's help, which is what a reader follows."""
    from benchmarks.reliability import serving_under_load

    text = " ".join((serving_under_load.__doc__ or "").replace("\\", "").split())
    for server in SERVERS.values():
        assert server.install in text
