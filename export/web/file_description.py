"""What a page has to know of a `.tflite` file: its input, its outputs, its metadata."""

import os
import pathlib
import urllib.parse
from typing import Any

import numpy as np

from vit_keras import Preprocessing
from vit_keras.heads import HEADS

from ..evaluation.check import check
from ..evaluation.runners import TFLiteRunner
from ..flatbuffer.graph_editor import GraphEditor
from ..flatbuffer.metadata import (
    DAMAGED,
    DEPTHS,
    archived_files,
    label_names,
    output_entries,
    read_metadata,
)
from ..schemes import SCHEMES
from ..targets import ANY, TARGETS
from .runtime import integrity

WEB = "web"
FIX = (
    "`vit-export tflite MODEL.keras FILE.tflite --target web` writes one that it "
    "takes; with `--scheme int8 --calibration IMAGES` in int8, with float32 input and "
    "output"
)
CHANNELS = {"RGB": 3, "GRAYSCALE": 1}
# The operator of each activation, and those that may follow it.
ACTIVATIONS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}
SAME_VALUES = ("DEQUANTIZE", "RESHAPE")
ATTENTION = "attention"  # of the names that a ViT's file can give


def describe_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a file for the page, after checking that LiteRT.js runs it.

    Arguments:
        path: a `.tflite` file with one picture as its input.

    Returns:
        Plain data for JSON; `static/model.js` says how each field is used.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it is a folder, LiteRT.js does not run it, or it does not say that
            its input is a picture; the message has the command that writes a fitting
            file.
        MissingDependency: the extra "export" is not installed.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f"`files` must be .tflite files. '{path}' is a folder. {FIX}")
    if not path.is_file():
        raise FileNotFoundError(f"`files` must be .tflite files. '{path}' is not there")
    metadata = read_metadata(path)
    _check_runs(path)
    try:
        return _described(path, metadata)
    except DAMAGED as error:
        if isinstance(error, ValueError):
            raise
        raise ValueError(f"the metadata of '{path}' are damaged: {error!r}") from error


def _described(path, metadata):
    content = path.read_bytes()
    runner, graph = TFLiteRunner(path), GraphEditor(content)
    _check_input(path, runner, graph)
    made = metadata.get("export", {})
    return {
        "name": path.stem,
        "file": f"models/{urllib.parse.quote(path.name)}",  # a URL
        "integrity": integrity(content, "sha384"),
        "bytes": len(content),
        "description": metadata.get("description", ""),
        "input": _picture(path, metadata, runner.input_shape[1:]),
        "preprocessing": _rules(made, runner.input_shape[-1]),
        "outputs": _outputs(path, metadata, runner, graph),
        "facts": _facts(metadata, made),
    }


def _check_runs(path):
    report = check(path, WEB)
    if not report.passed:
        raise ValueError(
            f"`files` must run in LiteRT.js. '{path}' does not: "
            f"{'; '.join(problem.reason for problem in report.unsupported)}. {FIX}"
        )


def _check_input(path, runner, graph):
    (index,) = graph.graph.inputs
    stated = graph.graph.tensors[index].shapeSignature
    shape = runner.input_shape if stated is None else tuple(int(n) for n in stated)
    if any(size < 1 for size in shape) or shape[0] != 1:
        raise ValueError(
            f"`files` must take one picture of a fixed size. '{path}' takes "
            f"{shape}, where -1 is any number, which LiteRT.js does not run. {FIX}"
        )
    if runner.input_dtype != "float32" or len(shape) != 4 or shape[-1] not in (1, 3):
        raise ValueError(
            "`files` must take a picture, float32 of shape (1, H, W, 3) or "
            f"(1, H, W, 1). '{path}' takes {runner.input_dtype} {shape}. {FIX}"
        )


def _picture(path, metadata, size):
    """The size of the input, and what makes it of pixels 0..255."""
    for graph in metadata.get("subgraph_metadata", ())[:1]:
        for entry in graph.get("input_tensor_metadata", ())[:1]:
            properties = entry.get("content", {}).get("content_properties", {})
            units = [unit.get("options", {}) for unit in entry.get("process_units", ())]
            found = [u["NormalizationOptions"] for u in units if len(u) == 1]
            if "ImageProperties" in properties and found:
                mean, std = (
                    np.resize(found[0][name], size[-1]).tolist()
                    for name in ("mean", "std")
                )
                names = ("height", "width", "channels")
                return {**dict(zip(names, size, strict=True)), "mean": mean, "std": std}
    raise ValueError(
        f"`files` must say what their input is made of. '{path}' has no metadata of a "
        "picture: export the model with `--preprocessing`, so that the file takes "
        "pixels 0..255"
    )


def _rules(made, channels):
    """How a photograph comes to the input's size, and whether the file says so."""
    stated = made.get("preprocessing")
    rules = Preprocessing(**stated) if stated else Preprocessing((0.5,) * channels)
    names = ("interpolation", "crop", "resize")
    found = {name: getattr(rules, name) for name in names}
    return {**found, "padding": rules.padding().tolist(), "stated": bool(stated)}


def _outputs(path, metadata, runner, graph):
    """The outputs in the file's order: name, shape, kind, and what belongs to it."""
    known = output_entries(metadata)
    names = list(runner.output_shapes)
    if len(known) != len(names):  # without metadata, or with that of something else
        known = [{} for _ in names]
    files = archived_files(path)
    labels = [label_names(entry, files) for entry in known]
    head = metadata.get("export", {}).get("head")
    meant = _meant(names, known, labels)
    found = []
    for place, name in enumerate(names):
        shape = runner.output_shapes[name]
        applied = _activation(graph, int(graph.graph.outputs[place]))
        own = head if place == meant else None
        if head is None and labels[place]:  # of other makers, who write no head
            own = {"softmax": "softmax", "sigmoid": "multi_label"}.get(applied)
        entry = {
            "name": name,
            "shape": list(shape),
            "dtype": runner.output_dtypes[name],
        }
        entry |= _kind(name, own, applied, entry)
        if labels[place]:
            entry["labels"] = labels[place]
        if (said := known[place].get("description")) is not None:
            entry["description"] = said
            entry["inverse"] = said == DEPTHS["inverse"]
        found.append(entry)
    return found


def _meant(names, known, labels):
    """The place of the output that the file's head describes; None if it is open."""
    for place, entry in enumerate(known):
        if labels[place] or entry.get("description") in DEPTHS.values():
            return place
    own = [n for n, name in enumerate(names) if name in ("logits", "probabilities")]
    own += [n for n, name in enumerate(names) if name == "values"]
    return own[0] if own else 0 if len(names) == 1 else None


def _kind(name, head, applied, entry):
    """How the page shows an output: `kind`, and what its probabilities need."""
    rank, floats = len(entry["shape"]), entry["dtype"] == "float32"
    row = HEADS.get(head)
    if row is not None and row.task == "classify" and rank == 2 and floats:
        if row.probability is None:
            return {"kind": "values"}
        done = applied == row.probability
        needed = "" if done else row.probability
        return {"kind": "classes", "head": head, "activation": needed}
    if row is not None and row.task == "segment" and rank in (3, 4):
        return {"kind": "scores" if rank == 4 else "classes_map"}
    if row is not None and row.task == "depth" and rank == 4:
        return {"kind": "depth"}
    if name == ATTENTION and rank == 3 and floats:
        return {"kind": "attention"}
    return {"kind": "numbers"}


def _activation(graph, index):
    """What the file has applied to an output last, or "linear"."""
    op = graph.producer(index)
    while graph.kind(op) in SAME_VALUES:
        op = graph.producer(int(op.inputs[0]))
    return ACTIVATIONS.get(graph.kind(op), "linear")


def _facts(metadata, made):
    """(name, value) of what the file says about itself, in the order of the page."""
    found = {
        "Model": metadata.get("name"),
        "Author": metadata.get("author"),
        "Licence": metadata.get("license", "not stated in the file"),
    }
    if made:
        scheme, parity = made["scheme"], made["parity"]
        found["Scheme"] = _explained(scheme, SCHEMES)
        found["Made for"] = _explained(made["target"] or ANY, TARGETS)
        calibration = made.get("calibration")
        if calibration:
            found["Calibrated on"] = f"{calibration['images']} images"
        found["Parity with the Keras model"] = _parity(parity)
        versions = made["versions"]
        tools = ("vit-keras-edge", "keras", "tensorflow", "litert-quantizer")
        found["Made with"] = ", ".join(
            f"{name} {versions[name]}" for name in tools if name in versions
        )
    return [[name, value] for name, value in found.items() if value]


def _explained(name, table):
    """A name of a table with what stands there; perhaps of another release."""
    return f"{name} ({table[name].summary})" if name in table else name


def _parity(parity):
    exact = parity["sqnr_db"] is None and parity["passed"]
    sqnr = "exact" if exact else f"SQNR {parity['sqnr_db']:g} dB"
    same = parity["agreement"]
    agreed = "" if same is None else f", same top class in {100 * same:.4g} %"
    return f"{sqnr}{agreed}, on {parity['images']} images"
