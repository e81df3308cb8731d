"""A stand-in for TF Serving on loopback: its messages, over gRPC and REST, answered by
TensorFlow's session from the SavedModel. It proves clients and model against the
protocol, not the real server's batching."""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import threading

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc as service

from export.evaluation.saved_model_session import SavedModelSession
from export.evaluation.tools.serving_requests import WARMUP, records

UNLIMITED = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


class Service(service.PredictionServiceServicer):
    def __init__(self, name, servable):
        self.name, self.servable = name, servable

    def _check(self, request, context):
        spec = request.model_spec
        if spec.name != self.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found: {spec.name}")
        signature = spec.signature_name or "serving_default"
        if signature not in self.servable.signatures:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{signature}" not found.',
            )
        return signature

    def Predict(self, request, context):
        signature = self._check(request, context)
        inputs = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
        try:
            outputs = self.servable.run(signature, inputs)
        except (tf.errors.OpError, ValueError, KeyError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        response.model_spec.CopyFrom(request.model_spec)
        for key, value in outputs.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response

    def Classify(self, request, context):
        signature = self._check(request, context)
        examples = [e.SerializeToString() for e in request.input.example_list.examples]
        outputs = self.servable.run(signature, {"inputs": np.array(examples, object)})
        response = classification_pb2.ClassificationResponse()
        rows = zip(outputs["classes"], outputs["scores"], strict=True)
        for classes, scores in rows:
            found = response.result.classifications.add()
            for label, score in zip(classes, scores, strict=True):
                found.classes.add(label=label.decode(), score=float(score))
        return response


def plain(key, value):
    """An output as TF Serving's JSON has it."""
    if value.dtype != object:
        return value.tolist()
    as_bytes = key.endswith("_bytes")

    def one(item):
        return {"b64": base64.b64encode(item).decode()} if as_bytes else item.decode()

    return np.vectorize(one, otypes=[object])(value).tolist()


def handler(name, servable):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            length = int(self.headers["Content-Length"])
            try:
                status, answer = self.answer(json.loads(self.rfile.read(length)))
            except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
                status, answer = 400, {"error": str(error)}
            body = json.dumps(answer, allow_nan=False).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def answer(self, request):
            if self.path != f"/v1/models/{name}:predict":
                return 404, {"error": f"Malformed request: POST {self.path}"}
            signature = request.get("signature_name", "serving_default")
            if signature not in servable.signatures:
                return 400, {
                    "error": f'Serving signature name: "{signature}" not found'
                }
            ((key, _),) = servable.signatures[signature].inputs.items()
            instances = [instance[key] for instance in request["instances"]]
            items = [base64.b64decode(item["b64"], validate=True) for item in instances]
            outputs = servable.run(signature, {key: np.array(items, object)})
            rows = {key: plain(key, value) for key, value in outputs.items()}
            return 200, {
                "predictions": [
                    {key: values[i] for key, values in rows.items()}
                    for i in range(len(items))
                ]
            }

    return Handler


@contextlib.contextmanager
def serving(path, name):
    """(REST address, gRPC address) of a server of one SavedModel."""
    servable = SavedModelSession(path)
    for signature, key, value in records(servable.path / WARMUP, tf):  # as it starts
        servable.run(signature, {key: value})
    threads = concurrent.futures.ThreadPoolExecutor(8)
    rpc = grpc.server(threads, options=UNLIMITED)
    service.add_PredictionServiceServicer_to_server(Service(name, servable), rpc)
    port = rpc.add_insecure_port("127.0.0.1:0")
    rpc.start()
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(name, servable))
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{rest.server_port}", f"127.0.0.1:{port}"
    finally:
        rest.shutdown()
        rest.server_close()
        rpc.stop(0).wait()
