"""How a client asks each kind of server: one class for each protocol.

Their packages are imported where they are used: a client runs in the environment of
its server, which has NumPy besides.
"""

import struct

import numpy as np

MODEL, SIGNATURE, ENTRY = "vit", "predict_bytes", "image_bytes"
OUTPUTS = ("valid", "logits", "top_ids")
CHANNEL = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # else all clients share one connection
]


class Refused(Exception):
    """The server's own message that it does not take a request."""


class TensorFlowServing:
    """TF Serving's Predict over gRPC.

    Arguments:
        address: host:port.
    """

    def __init__(self, address: str):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc as service

        self.channel = grpc.insecure_channel(address, options=CHANNEL)
        self._stub = service.PredictionServiceStub(self.channel)

    def ask(self, contents: list[bytes], timeout: float) -> tuple[int, dict]:
        """Return the version that answered, and {output: array}.

        Raises:
            Refused: the server does not take the request.
            grpc.RpcError: there is no answer.
        """
        import grpc
        from tensorflow import make_ndarray, make_tensor_proto
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()  # pyright: ignore
        request.model_spec.name = MODEL
        request.model_spec.signature_name = SIGNATURE
        request.inputs[ENTRY].CopyFrom(make_tensor_proto(contents))
        request.output_filter.extend(OUTPUTS)
        try:
            response = self._stub.Predict(request, timeout)
        except grpc.RpcError as error:
            raise _named(error) from error
        outputs = {name: make_ndarray(response.outputs[name]) for name in OUTPUTS}
        return response.model_spec.version.value, outputs


class OpenInference:
    """The Open Inference Protocol (KServe's second) over gRPC, of Triton and MLServer.

    Arguments:
        address: host:port.
    """

    DTYPES = {"BOOL": "?", "FP32": "<f4", "INT64": "<i8"}

    def __init__(self, address: str):
        import grpc
        from tritonclient.grpc import service_pb2_grpc

        self.channel = grpc.insecure_channel(address, options=CHANNEL)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)

    def ask(self, contents: list[bytes], timeout: float) -> tuple[int, dict]:
        """See `TensorFlowServing.ask`."""
        import grpc
        from tritonclient.grpc import service_pb2

        request = service_pb2.ModelInferRequest(model_name=MODEL)  # pyright: ignore
        request.inputs.add(name=ENTRY, datatype="BYTES", shape=[len(contents), 1])
        raw = b"".join(struct.pack("<I", len(c)) + c for c in contents)
        request.raw_input_contents.append(raw)
        try:
            response = self._stub.ModelInfer(request, timeout=timeout)
        except grpc.RpcError as error:
            raise _named(error) from error
        outputs = {}
        pairs = zip(response.outputs, response.raw_output_contents, strict=True)
        for output, raw in pairs:
            values = np.frombuffer(raw, self.DTYPES[output.datatype])
            outputs[output.name] = values.reshape(output.shape)
        outputs["valid"] = outputs["valid"].reshape(-1)
        return int(response.model_version), outputs


def _named(error):
    """`Refused` for a message about the request; what is lost stays as it is."""
    name = error.code().name
    if name in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"):
        return Refused(f"{name}: {error.details()}")
    return error


PROTOCOLS = {"tensorflow": TensorFlowServing, "open": OpenInference}
