"""A stand-in for TF Serving on loopback: its messages, over gRPC and REST, answered by
TensorFlow's session from the SavedModel, in batches of TensorFlow's scheduler."""

import base64
import contextlib
import http.server
import json
import threading

import numpy as np
import tensorflow as tf

from benchmarks.reliability.serving_tensorflow import Versions, listening


def plain(key, value):
    """An output as TF Serving's JSON has it."""
    if value.dtype != object:
        return value.tolist()
    as_bytes = key.endswith("_bytes")

    def one(item):
        return {"b64": base64.b64encode(item).decode()} if as_bytes else item.decode()

    return np.vectorize(one, otypes=[object])(value).tolist()


def handler(versions):
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
            if self.path != f"/v1/models/{versions.name}:predict":
                return 404, {"error": f"Malformed request: POST {self.path}"}
            with versions.using() as (_, servable):
                return self.predicted(request, servable)

        def predicted(self, request, servable):
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
def serving(folder):
    """(REST address, gRPC address) of a server of a model's versions."""
    versions = Versions(folder)
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(versions))
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    with listening(versions) as address:
        try:
            yield f"http://127.0.0.1:{rest.server_port}", address
        finally:
            rest.shutdown()
            rest.server_close()
