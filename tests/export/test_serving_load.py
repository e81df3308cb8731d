"""A server of the SavedModel under load: nothing lost, nothing wrong."""

import base64
import sys

import keras
import numpy as np
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)

from benchmarks.reliability import serving_under_load
from benchmarks.reliability.serving_clients import Client, Job
from benchmarks.reliability.serving_items import items
from benchmarks.reliability.serving_servers import SERVERS
from benchmarks.reliability.serving_under_load import Load, models, summary, under_load


def test_client_sees_what_is_wrong():
    """What the counts of the table are made of."""
    content = base64.b64encode(b"an image").decode()
    sent = [["good", content, True, False], ["bad", content, False, False]]
    single = {"logits": [[1.0, 2.0], [0.0, 0.0]], "top_ids": [[1, 0], [-1, -1]]}
    job = Job("tensorflow", "127.0.0.1:9", sent, {"1": single}, 1, 0, 0.0, 0.0, 0)
    client, part = Client(job, 0), [0, 0, 1]
    outputs = {name: np.array(values)[part] for name, values in single.items()}
    outputs["logits"] = outputs["logits"].astype("float32")
    outputs["valid"] = np.array([True, True, False])
    right, apart = client.compared(part, 1, outputs)
    assert right["wrong"] == right["not_named"] == apart == 0
    assert right["compared"] == right["same_bits"] == 2
    outputs["logits"][0] *= 1.00001
    close, apart = client.compared(part, 1, outputs)
    assert close["wrong"] == 0 and close["same_bits"] == 1 and 0 < apart < 2e-5
    outputs["logits"][0] *= 1.001
    assert client.compared(part, 1, outputs)[0]["wrong"] == 1
    outputs["top_ids"][1] = 0
    assert client.compared(part, 1, outputs)[0]["wrong"] == 2
    outputs["valid"][:] = True
    assert client.compared(part, 1, outputs)[0]["not_named"] == 1
    lost = client.asked(part)  # nothing listens there
    assert summary([lost])["lost"] == 1 and "UNAVAILABLE" in lost["error"]


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
