"""The directory behind a server: contract, warm-up, files, client, load."""

import concurrent.futures
import io
import random
import shutil
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
from PIL import Image

import export
from tests.models import exported

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)
import grpc
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, prediction_service_pb2_grpc

from benchmarks.reliability.serving_protocols import Refused, TensorFlowServing
from benchmarks.reliability.serving_tensorflow import Versions, listening
from export.evaluation.tools.serving_requests import WARMUP, records
from export.serving import client
from export.serving.server_files import BATCHES, write_serving_files
from tests.export.server import serving

LABELS = [f"class {i}" for i in range(10)]


def photograph(seed):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 255, (4, 4, 3)).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).resize((40, 40)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def servable(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "vit" / "1"
    export.to_saved_model(exported(num_layers=1), path, labels=LABELS, warmup=BATCHES)
    return path


@pytest.fixture(scope="module")
def server(servable):
    with serving(servable.parent) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def answers(servable):
    """(image, what the SavedModel says of it) of some photographs."""
    predict = tf.saved_model.load(str(servable)).signatures["predict_bytes"]
    items = [photograph(seed) for seed in range(16)]
    ids = predict(image_bytes=tf.constant(items))["top_ids"].numpy().tolist()
    return list(zip(items, ids, strict=True))


def test_contract_is_kept(servable):
    report = export.check(servable, "tf-serving")
    assert report.passed, report
    assert report.facts["warm-up records"] == 3 * len(BATCHES)
    assert "supported, by TensorFlow" in str(report)


def test_contract_finds_what_is_wrong(servable, tmp_path):
    """Another exporter's directory: weights twice, no version, broken warm-up."""
    model = exported(num_layers=1)
    path = tmp_path / "latest"
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec((None, 32, 32, 3), "float32", name="images")

    def normalised(images):  # over the batch: no image of it is independent
        return {"output": model(images - tf.reduce_mean(images))}

    archive.add_endpoint("serving_default", normalised, [spec])
    archive.add_endpoint("ids", lambda images: {"top_ids": model(images)}, [spec])
    archive.write_out(str(path), verbose=False)
    (path / WARMUP).parent.mkdir(exist_ok=True)
    shutil.copy(servable / WARMUP, path / WARMUP)
    report = export.check(path, "tf-serving")
    text = str(report)
    assert not report.passed and "version number" in text and "stored twice" in text
    assert "depends on the other images" in text and "warm-up record" in text
    assert "output top_ids must be int64. Received: float32" in text


def test_contract_misses_labels(servable, tmp_path):
    path = tmp_path / "1"
    shutil.copytree(servable, path)
    (path / "assets" / "labels.txt").write_text("one\ntwo\n")
    report = export.check(path, "tf-serving")
    assert "no file in assets has the labels of its 10 classes" in str(report)


def test_target_and_artefact_must_fit(servable, tmp_path):
    with pytest.raises(ValueError, match="'tf-serving' for a SavedModel"):
        export.check(servable, "npu")
    with pytest.raises(ValueError, match="'tf-serving' for a SavedModel"):
        export.check(tmp_path / "m.tflite", "tf-serving")
    (tmp_path / "1").mkdir()
    with pytest.raises(ValueError, match="must be a SavedModel"):
        export.check(tmp_path / "1", "tf-serving")


def test_warmup_file_is_small_and_complete(servable):
    found = {(name, len(value)) for name, _, value in records(servable / WARMUP, tf)}
    names = ("serving_default", "predict_bytes", "classify")
    assert found == {(name, size) for name in names for size in BATCHES}
    # An image of zeros would be 3 KB, and fifteen of them are in a set of batches.
    assert (servable / WARMUP).stat().st_size < 60_000


def test_client_by_rest_and_grpc(server, answers):
    rest, rpc = server
    items = [answers[0][0], b"no image", answers[1][0]]
    for found in (
        client.by_rest(rest, "vit", items),
        client.by_grpc(rpc, "vit", items),
    ):
        assert [answer["valid"] for answer in found] == [True, False, True]
        assert found[0]["top_ids"] == answers[0][1]
        assert found[2]["top_labels"] == [LABELS[i] for i in answers[1][1]]
        assert found[1]["top_labels"] == [""] * 5
    assert client.describe(found[0]).startswith(LABELS[answers[0][1][0]])
    assert "cannot be read" in client.describe(found[1])


def test_client_reports_the_servers_message(server):
    rest, rpc = server
    with pytest.raises(RuntimeError, match="404"):
        client.by_rest(rest, "other", [b""])
    with pytest.raises(RuntimeError, match="NOT_FOUND"):
        client.by_grpc(rpc, "other", [b""])


def test_more_images_than_a_batch(server, answers):
    """The server refuses them in one request; the client sends several."""
    rest, rpc = server
    items = [item for item, _ in answers[: client.MOST]] * 2 + [answers[0][0]]
    for ask, address in ((client.by_rest, rest), (client.by_grpc, rpc)):
        found = ask(address, "vit", items)
        ids = [answer["top_ids"] for answer in found]
        assert ids == [ids for _, ids in answers[: client.MOST]] * 2 + [answers[0][1]]
    with pytest.raises(RuntimeError, match="400.*larger than"):
        client._request_by_rest(rest, "vit", items, 60)


def test_classification_api(server, answers):
    with grpc.insecure_channel(server[1]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = classification_pb2.ClassificationRequest()
        request.model_spec.name = "vit"
        request.model_spec.signature_name = "classify"
        example = request.input.example_list.examples.add()
        feature = example.features.feature["image/encoded"]
        feature.bytes_list.value.append(answers[0][0])
        found = stub.Classify(request, 60).result.classifications[0].classes
    assert [c.label for c in found] == [LABELS[i] for i in answers[0][1]]


def test_a_thousand_requests_of_eight_clients(server, answers):
    """5 % of the items are corrupt: every good one is answered right, none is lost."""
    draws = random.Random(0)
    requests = []
    for _ in range(1000):
        chosen = [draws.choice(answers) for _ in range(draws.choice((1, 2, 4)))]
        bad = [draws.random() < 0.05 for _ in chosen]
        requests.append((chosen, bad))

    def ask(request):
        chosen, bad = request
        pairs = zip(chosen, bad, strict=True)
        items = [
            item[: len(item) // 3] if broken else item for (item, _), broken in pairs
        ]
        return client.by_rest(server[0], "vit", items)

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        found = list(clients.map(ask, requests))
    assert len(found) == 1000
    for (chosen, bad), got in zip(requests, found, strict=True):
        assert [not answer["valid"] for answer in got] == bad
        for (_, ids), broken, answer in zip(chosen, bad, got, strict=True):
            assert answer["top_ids"] == ([-1] * 5 if broken else ids)


def test_new_versions_under_load(servable, answers, tmp_path):
    """Requests go on while versions come and go, and name the one that answered."""
    folder, found, ends = tmp_path / "vit", [], threading.Event()
    cold = shutil.ignore_patterns("assets.extra")  # the warm-up takes seconds
    shutil.copytree(servable, folder / "1", ignore=cold)
    versions = Versions(folder)

    def ask(item, ids):
        while not ends.is_set():
            version, outputs = server.ask([item, b"no image"], 60)
            right = outputs["top_ids"].tolist() == [ids, [-1] * 5]
            found.append((version, right and outputs["valid"].tolist()))

    with listening(versions) as address:
        server = TensorFlowServing(address)
        clients = concurrent.futures.ThreadPoolExecutor(3)
        asked = [clients.submit(ask, *pair) for pair in answers[:3]]
        for number in (2, 3):
            shutil.copytree(servable, tmp_path / "part", ignore=cold)
            (tmp_path / "part").rename(folder / str(number))
            versions.refresh()
            until = time.monotonic() + 60
            while number not in [version for version, _ in found]:
                assert time.monotonic() < until
                time.sleep(0.01)
        ends.set()
        for one in asked:
            one.result()  # raises what was lost
        with pytest.raises(Refused, match="larger than"):
            server.ask([b""] * 9, 60)
    assert {version for version, _ in found} == {1, 2, 3}
    assert all(valid == [True, False] for _, valid in found)
    with pytest.raises(LookupError, match="version 1"):
        versions.using(1).__enter__()


def test_written_client_stands_alone(servable, server, answers, tmp_path):
    write_serving_files(servable, tmp_path)
    (tmp_path / "a.jpg").write_bytes(answers[0][0])
    (tmp_path / "b.jpg").write_bytes(b"no image")
    done = subprocess.run(
        [sys.executable, "client.py", "vit", "a.jpg", "b.jpg", "--rest", server[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"a.jpg: {LABELS[answers[0][1][0]]}")
    assert second == "b.jpg: cannot be read as an image"
    done = subprocess.run(
        [sys.executable, "client.py", "vit", "a.jpg", "--rest", "http://127.0.0.1:9"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "did not answer" in done.stderr


@pytest.mark.slow
def test_two_versions_compared(servable, tmp_path, pixels):
    other = tmp_path / "2"
    export.to_saved_model(exported(seed=1, num_layers=1), other)
    same = export.compare(servable, servable, pixels[:8], runs=2)
    changed = export.compare(servable, other, pixels[:8], runs=2)
    assert same.parity.agreement == 1 and changed.parity.agreement < 1
    assert same.old_ms > 0 and "instead of" in str(changed)
    assert changed.same_labels and "labels" not in str(changed)  # `other` has none
    export.to_saved_model(exported(num_layers=1), tmp_path / "3", labels=LABELS[::-1])
    turned = export.compare(servable, tmp_path / "3", pixels[:8], runs=1)
    assert turned.parity.agreement == 1 and "the labels differ" in str(turned)


def test_openvino_reads_the_directory(tmp_path, pixels):
    """A second engine that reads SavedModels by itself."""
    openvino = pytest.importorskip("openvino")
    model, path = exported(num_layers=1), tmp_path / "1"
    export.to_saved_model(model, path, signatures=["serving_default"])
    core = openvino.Core()
    read = core.read_model(path)
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = compiled(pixels[:4])[0]
    expected = export.load(path)(pixels[:4])
    np.testing.assert_allclose(outputs, expected, atol=1e-4)
