"""Run a SavedModel by TensorFlow's C API, the loader of TF Serving, without its Python.

    python in_c_api.py DIRECTORY < requests > answers

A request is [the name of the tensor to feed, what to feed, {name: tensor to fetch}]; to
feed are base64 strings or nested lists of pixels. An answer is {name: value} or
{"error": message}. Both come as one JSON list. No module of TensorFlow or Keras is
imported.
"""

import base64
import ctypes
import importlib.util
import json
import pathlib
import sys

import numpy as np

STRING, STRING_BYTES = 7, 24  # TF_STRING, sizeof(TF_TString)
DTYPES = {1: np.float32, 3: np.int32, 4: np.uint8, 9: np.int64, 10: np.bool_}
P = ctypes.c_void_p
POINTERS = (
    *("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_NewBuffer"),
    *("TF_LoadSessionFromSavedModel", "TF_GraphOperationByName", "TF_TensorData"),
    *("TF_AllocateTensor", "TF_StringGetDataPointer"),
)


class Output(ctypes.Structure):
    _fields_ = [("operation", P), ("index", ctypes.c_int)]


def library():
    found = importlib.util.find_spec("tensorflow")  # does not import it
    folder = pathlib.Path(found.origin).parent
    c = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"))
    for name in POINTERS:
        getattr(c, name).restype = P
    c.TF_Message.restype = ctypes.c_char_p
    c.TF_Dim.restype = ctypes.c_int64
    c.TF_TensorByteSize.restype = c.TF_StringGetSize.restype = ctypes.c_size_t
    return c


class Session:
    def __init__(self, path):
        c = self.c = library()
        self.status, self.graph = c.TF_NewStatus(), c.TF_NewGraph()
        tags = (ctypes.c_char_p * 1)(b"serve")
        self.session = c.TF_LoadSessionFromSavedModel(
            *(P(c.TF_NewSessionOptions()), None, path.encode(), tags, 1),
            *(P(self.graph), P(c.TF_NewBuffer()), P(self.status)),
        )
        self.check()

    def check(self):
        if self.c.TF_GetCode(P(self.status)):
            raise RuntimeError(self.c.TF_Message(P(self.status)).decode())

    def output(self, name):
        operation, _, index = name.partition(":")
        found = self.c.TF_GraphOperationByName(P(self.graph), operation.encode())
        if not found:
            raise KeyError(name)
        return Output(found, int(index or 0))

    def tensor(self, value):
        """A list of bytes, or an array, as a tensor."""
        c = self.c
        if isinstance(value, np.ndarray):
            value = np.ascontiguousarray(value)
            (kind,) = (k for k, dtype in DTYPES.items() if dtype == value.dtype)
            shape, size = value.shape, value.nbytes
        else:
            kind, shape, size = STRING, (len(value),), STRING_BYTES * len(value)
        dims = (ctypes.c_int64 * len(shape))(*shape)
        made = c.TF_AllocateTensor(kind, dims, len(shape), ctypes.c_size_t(size))
        start = c.TF_TensorData(P(made))
        if kind != STRING:
            ctypes.memmove(start, value.ctypes.data, size)
            return made
        for i, item in enumerate(value):
            place = P(start + STRING_BYTES * i)
            c.TF_StringInit(place)
            c.TF_StringCopy(place, item, ctypes.c_size_t(len(item)))
        return made

    def run(self, feed, value, fetches):
        c, tensor = self.c, self.tensor(value)
        inputs = (Output * 1)(self.output(feed))
        outputs = (Output * len(fetches))(*map(self.output, fetches))
        values = (P * len(fetches))()
        c.TF_SessionRun(
            *(P(self.session), None, inputs, (P * 1)(tensor), 1),
            *(outputs, values, len(fetches), None, 0, None, P(self.status)),
        )
        c.TF_DeleteTensor(P(tensor))
        self.check()
        found = [self.array(value) for value in values]
        for value in values:
            c.TF_DeleteTensor(P(value))
        return found

    def array(self, tensor):
        c = self.c
        dims = range(c.TF_NumDims(P(tensor)))
        shape = [c.TF_Dim(P(tensor), i) for i in dims]
        dtype, start = c.TF_TensorType(P(tensor)), c.TF_TensorData(P(tensor))
        if dtype != STRING:
            content = ctypes.string_at(start, c.TF_TensorByteSize(P(tensor)))
            return np.frombuffer(content, DTYPES[dtype]).reshape(shape)
        places = [P(start + STRING_BYTES * i) for i in range(int(np.prod(shape)))]
        texts = [
            ctypes.string_at(c.TF_StringGetDataPointer(p), c.TF_StringGetSize(p))
            for p in places
        ]
        return np.array([text.decode() for text in texts]).reshape(shape)


def answer(session, feed, items, names):
    if isinstance(items[0], str):
        value = [base64.b64decode(item) for item in items]
    else:
        value = np.array(items, "uint8")
    try:
        arrays = session.run(feed, value, list(names.values()))
    except RuntimeError as error:
        return {"error": str(error)}
    return {key: array.tolist() for key, array in zip(names, arrays, strict=True)}


def main(path):
    session = Session(path)
    answers = [answer(session, *request) for request in json.load(sys.stdin)]
    if {"tensorflow", "keras"} & set(sys.modules):
        raise RuntimeError("Python code of the model was loaded")
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
