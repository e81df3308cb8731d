"""A server of TF Serving's messages over gRPC, for the versions in a folder.

    python -m benchmarks.reliability.serving_tensorflow FOLDER PORT

The messages are TF Serving's own, the session is TensorFlow's, batches are formed by
its scheduler under the rules as deployed. Of TF Serving's manager it has what
`models.config` asks for: the newest two versions are served, a new one takes requests
once it is loaded and warm, and an old one goes when its last request is answered.
"""

import concurrent.futures
import contextlib
import pathlib
import sys
import threading

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc as service

from benchmarks.reliability.batched_session import BatchedSession
from export.evaluation.tools.serving_requests import WARMUP, records

NUMBER = 2  # versions that are served, as in `models.config`
POLL = 0.5  # seconds between looks into the folder
THREADS = 64  # requests at a time; TF Serving has as many as there are calls
UNLIMITED = [  # as TF Serving's server
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


class NotServed(LookupError):
    """A model or version that is not there."""


class Versions:
    """The newest versions in a folder, each as a `BatchedSession`.

    Arguments:
        folder: of the model, with a directory for each version.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.name = self.folder.resolve().name
        self._loaded: dict[int, BatchedSession] = {}
        self._users: dict[int, int] = {}
        self._changed = threading.Condition()
        self.refresh()

    def refresh(self) -> None:
        """Load versions that are new, then unload those that are too old."""
        there = [int(p.name) for p in self.folder.iterdir() if p.name.isdigit()]
        wanted = sorted(there)[-NUMBER:]
        for number in [n for n in wanted if n not in self._loaded]:
            servable = BatchedSession(self.folder / str(number))
            if (servable.path / WARMUP).is_file():
                for signature, key, value in records(servable.path / WARMUP, tf):
                    servable.run(signature, {key: value})
            with self._changed:
                self._loaded[number], self._users[number] = servable, 0
        for number in [n for n in self._loaded if n not in wanted]:
            with self._changed:
                servable = self._loaded.pop(number)
                self._changed.wait_for(lambda n=number: not self._users[n])
            servable.session.close()

    @contextlib.contextmanager
    def using(self, number=0):
        """(number, session) of a version, the newest for 0, kept until the end.

        Raises:
            NotServed: it is not there.
        """
        with self._changed:
            number = number or max(self._loaded)
            if number not in self._loaded:
                raise NotServed(f"{self.name}, version {number}")
            servable = self._loaded[number]
            self._users[number] += 1
        try:
            yield number, servable
        finally:
            with self._changed:
                self._users[number] -= 1
                self._changed.notify_all()


class Service(service.PredictionServiceServicer):
    """TF Serving's calls Predict and Classify.

    Arguments:
        versions: the `Versions` of the one model.
    """

    def __init__(self, versions: Versions):
        self.versions = versions

    def _run(self, request, context, inputs):
        """(version, outputs) of a request, or its end with TF Serving's status."""
        spec, codes = request.model_spec, grpc.StatusCode
        signature = spec.signature_name or "serving_default"
        try:
            if spec.name != self.versions.name:
                raise NotServed(spec.name)
            with self.versions.using(spec.version.value) as (number, servable):
                if signature in servable.signatures:
                    return number, servable.run(signature, inputs)
            code = codes.FAILED_PRECONDITION
            text = f'Serving signature key "{signature}" not found.'
        except NotServed as error:
            code, text = codes.NOT_FOUND, f"Servable not found: {error}"
        except (tf.errors.OpError, ValueError, KeyError) as error:
            number = getattr(error, "error_code", codes.INVALID_ARGUMENT.value[0])
            # Without the lines of Python that built the graph.
            code, text = STATUS[number], str(error).rpartition("\nNode: ")[2]
        context.abort(code, text)
        raise RuntimeError(text)  # not reached: `abort` raises

    def Predict(self, request, context):
        """Answer a `PredictRequest`."""
        inputs = {key: tf.make_ndarray(v) for key, v in request.inputs.items()}
        number, outputs = self._run(request, context, inputs)
        response = predict_pb2.PredictResponse()  # pyright: ignore
        response.model_spec.CopyFrom(request.model_spec)
        response.model_spec.version.value = number
        for key, value in outputs.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response

    def Classify(self, request, context):
        """Answer a `ClassificationRequest`."""
        examples = [e.SerializeToString() for e in request.input.example_list.examples]
        inputs = {"inputs": np.array(examples, object)}
        _, outputs = self._run(request, context, inputs)
        response = classification_pb2.ClassificationResponse()  # pyright: ignore
        rows = zip(outputs["classes"], outputs["scores"], strict=True)
        for classes, scores in rows:
            found = response.result.classifications.add()
            for label, score in zip(classes, scores, strict=True):
                found.classes.add(label=label.decode(), score=float(score))
        return response


# Numbers of TensorFlow's errors are those of gRPC.
STATUS = {code.value[0]: code for code in grpc.StatusCode}


@contextlib.contextmanager
def listening(versions: Versions, port: int = 0):
    """The gRPC address of a server of some versions, on loopback; any port for 0."""
    threads = concurrent.futures.ThreadPoolExecutor(THREADS)
    server = grpc.server(threads, options=UNLIMITED)
    service.add_PredictionServiceServicer_to_server(Service(versions), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def main():
    """Serve until the process is ended."""
    folder, port = sys.argv[1:]
    versions = Versions(folder)
    with listening(versions, int(port)):
        while not threading.Event().wait(POLL):
            versions.refresh()


if __name__ == "__main__":
    main()
