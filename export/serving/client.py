"""Client of TF Serving for images, by REST or gRPC.

    python client.py MODEL photo.jpg other.png
    python client.py MODEL photo.jpg --grpc 127.0.0.1:8500

REST needs only Python. gRPC needs `pip install tensorflow-serving-api`, and saves a
quarter of the bytes. An image that the server cannot read has `valid` false.
"""

import argparse
import base64
import collections
import json
import pathlib
import sys
import urllib.error
import urllib.request

SIGNATURE = "predict_bytes"
MOST = 8  # images per request: the server's max_batch_size


def by_rest(url, model, images, timeout=60):
    """Request predictions for encoded images by REST; return a dict for each.

    Arguments:
        url: of the server, as http://127.0.0.1:8501.
        model: its name.
        images: bytes of each image file, any number: a request has `MOST`.
        timeout: seconds, of each request.

    Raises:
        RuntimeError: the server's own message.
    """
    return [
        answer
        for part in parts(images)
        for answer in _request_by_rest(url, model, part, timeout)
    ]


def parts(images):
    """Return images in lists of at most `MOST`."""
    return [images[start : start + MOST] for start in range(0, len(images), MOST)]


def _request_by_rest(url, model, images, timeout):
    instances = [{"b64": base64.b64encode(image).decode()} for image in images]
    body = {
        "signature_name": SIGNATURE,
        "instances": [{"image_bytes": instance} for instance in instances],
    }
    request = urllib.request.Request(
        f"{url}/v1/models/{model}:predict",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{error.code}: {error.read().decode()}") from error


def by_grpc(address, model, images, timeout=60):
    """Request predictions by gRPC, as `by_rest` does.

    Arguments:
        address: of the server, as 127.0.0.1:8500.
    """
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    unlimited = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    answers = []
    with grpc.insecure_channel(address, options=unlimited) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for part in parts(images):
            request = predict_pb2.PredictRequest()  # pyright: ignore
            request.model_spec.name = model
            request.model_spec.signature_name = SIGNATURE
            request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(part))
            try:
                outputs = stub.Predict(request, timeout).outputs
            except grpc.RpcError as error:
                raise RuntimeError(f"{error.code().name}: {error.details()}") from error
            arrays = {name: tf.make_ndarray(value) for name, value in outputs.items()}
            answers += [
                {name: array[i].tolist() for name, array in arrays.items()}
                for i in range(len(part))
            ]
    for answer in answers:
        if "top_labels" in answer:
            answer["top_labels"] = [label.decode() for label in answer["top_labels"]]
    return answers


def describe(answer):
    """Format an answer: classes with their scores, or with their fraction of a mask, or
    values."""
    if not answer["valid"]:
        return "cannot be read as an image"
    if "masks" in answer:
        pixels = [number for row in answer["masks"] for number in row]
        counts = collections.Counter(pixels).most_common()
        pairs = [(f"class {c}", count / len(pixels)) for c, count in counts]
    elif "values" in answer:
        return ", ".join(f"{value:.5g}" for value in answer["values"])
    elif "top_scores" in answer:
        names = answer.get("top_labels", answer["top_ids"])
        pairs = zip(names, answer["top_scores"], strict=True)
    else:
        return f"outputs {', '.join(answer)}"
    return ", ".join(f"{name} {score:.1%}" for name, score in pairs)


def main():
    parser = argparse.ArgumentParser(description="Classify images with TF Serving.")
    parser.add_argument("model", help="name under which the model is served")
    parser.add_argument("images", nargs="+", type=pathlib.Path, help="image files")
    parser.add_argument("--rest", default="http://127.0.0.1:8501", help="URL for REST")
    parser.add_argument("--grpc", help="host:port for gRPC, instead of REST")
    options = parser.parse_args()
    try:
        items = [path.read_bytes() for path in options.images]
    except OSError as error:
        sys.exit(f"no such image: {error}")
    ask, server = by_rest, options.rest
    if options.grpc:
        ask, server = by_grpc, options.grpc
    try:
        answers = ask(server, options.model, items)
    except (RuntimeError, OSError) as error:
        sys.exit(f"the server did not answer: {error}")
    for path, answer in zip(options.images, answers, strict=True):
        print(f"{path}: {describe(answer)}")


if __name__ == "__main__":
    main()
