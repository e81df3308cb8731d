"""A server of the SavedModel under load: nothing lost, nothing wrong."""

import base64
import concurrent.futures
import ctypes
import gc
import random
import sys

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)

from benchmarks.reliability import serving_under_load
from benchmarks.reliability.batched_session import BatchedSession
from benchmarks.reliability.serving_clients import MOST, Client, Job
from benchmarks.reliability.serving_items import items
from benchmarks.reliability.serving_servers import SERVERS
from benchmarks.reliability.serving_under_load import Load, models, summary, under_load
from export.serving import client


def test_client_sees_what_is_wrong():
    """What the counts of the table are made of."""
    content = base64.b64encode(b"an image").decode()
    sent = [["good", content, True, False], ["bad", content, False, False]]
    single = {"logits": [[1.0, 2.0], [0.0, 0.0]], "top_ids": [[1, 0], [-1, -1]]}
    job = Job("tensorflow", "127.0.0.1:9", sent, {"1": single}, 1, 0, 0.0, 0.0, 0)
    asker, part = Client(job, 0), [0, 0, 1]
    outputs = {name: np.array(values)[part] for name, values in single.items()}
    outputs["logits"] = outputs["logits"].astype("float32")
    outputs["valid"] = np.array([True, True, False])
    right, apart = asker.compared(part, 1, outputs)
    assert right["wrong"] == right["not_named"] == apart == 0
    assert right["compared"] == right["same_bits"] == 2
    outputs["logits"][0] *= 1.00001
    close, apart = asker.compared(part, 1, outputs)
    assert close["wrong"] == 0 and close["same_bits"] == 1 and 0 < apart < 2e-5
    outputs["logits"][0] *= 1.001
    assert asker.compared(part, 1, outputs)[0]["wrong"] == 1
    outputs["top_ids"][1] = 0
    assert asker.compared(part, 1, outputs)[0]["wrong"] == 2
    outputs["valid"][:] = True
    assert asker.compared(part, 1, outputs)[0]["not_named"] == 1
    lost = asker.asked(part)  # nothing listens there
    assert summary([lost])["lost"] == 1 and "UNAVAILABLE" in lost["error"]


def test_clients_ask_as_the_written_one():
    assert MOST == client.MOST


def test_servers_say_how_they_are_installed():
    """In the script's help, which is what a reader follows."""
    text = " ".join((serving_under_load.__doc__ or "").replace("\\", "").split())
    for server in SERVERS.values():
        assert server.install in text


@pytest.mark.slow
def test_load_of_sixteen_clients(tmp_path):
    """Of versions with other weights, which answer for themselves."""
    load = Load(models(tmp_path, 2, num_layers=1), items(640), 20, 60)
    (tmp_path / "work").mkdir()
    rows = under_load("tensorflow", sys.executable, load, tmp_path / "work")
    for row in rows:
        assert row["lost"] == row["wrong"] == row["not_named"] == 0, row
    whole, last = rows[1], rows[-1]
    assert whole["requests"] > 50 and whole["corrupt"] > 20
    # As `CLOSE` of the clients, which has a reserve for other machines.
    assert float(whole["largest_difference"]) < 1e-5
    assert "1:" in last["answered_by"] and "2:" in last["answered_by"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
def test_heap_in_use_is_flat(tmp_path):
    """What glibc keeps of freed memory grows a while; what is in use must not."""
    (path,) = models(tmp_path, 1, num_layers=1)
    session = BatchedSession(path)
    sent = [item.content for item in items(640) if not item.rare]

    def ask(seed):
        draws = random.Random(seed)
        for _ in range(25):
            chosen = draws.choices(sent, k=draws.choice((1, 2, 4, 8)))
            session.run("predict_bytes", {"image_bytes": np.array(chosen, object)})

    in_use = []
    for number in range(4):
        with concurrent.futures.ThreadPoolExecutor(6) as clients:
            list(clients.map(ask, range(6 * number, 6 * number + 6)))
        in_use.append(bytes_in_use() / 2**20)
    # Pixels of the model that were kept of the 560 images of a round would be 7 MB.
    assert max(in_use[1:]) - min(in_use[1:]) < 5, in_use


def bytes_in_use() -> int:
    """Bytes that were allocated and not freed, of all arenas of glibc."""
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keep"

    class Info(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

    gc.collect()
    ask = ctypes.CDLL("libc.so.6").mallinfo2
    ask.restype = Info
    found = ask()
    return found.uordblks + found.hblkhd
