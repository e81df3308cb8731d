"""Metadata into a `.tflite` file, by the published schema.

Apps that know the schema, such as those built on MediaPipe Tasks, learn from it that
the input takes pixels as they are, and what the classes are called.
"""

import json
import pathlib
import zipfile
from typing import Any

from ..flatbuffer.metadata import ENTRY, RECORD
from ..flatbuffer.objects import pack, unpack
from ..inputs import ExportInputs
from ..report import ExportReport, versions

LABELS = "labels.txt"
# Of the report, what is not said elsewhere in the file and is no path of this machine.
RECORDED = ("scheme", "target", "input", "output", "preprocessing", "rewrites")


def embed(path, inputs: ExportInputs):
    """Put metadata into a file, and the labels behind it.

    Arguments:
        path: a `.tflite` file, rewritten.
        inputs: of the export.
    """
    from ai_edge_litert import schema_py_generated as schema

    from ..flatbuffer.metadata_schema import pack_metadata

    path = pathlib.Path(path)
    model = unpack(path.read_bytes())
    model.buffers.append(schema.BufferT(data=pack_metadata(_metadata(inputs))))
    entry = schema.MetadataT(name=ENTRY.encode(), buffer=len(model.buffers) - 1)
    model.metadata = [*(model.metadata or ()), entry]
    path.write_bytes(pack(model))
    if inputs.labels is not None:
        _append(path, LABELS, "\n".join(inputs.labels) + "\n")


def record(path, report: ExportReport):
    """Write down behind a file how it was made and what was measured.

    The model itself, of which that was measured, stays as it is.
    """
    made = {name: getattr(report, name) for name in RECORDED}
    made["calibration"] = report.calibration and {
        name: report.calibration[name] for name in ("images", "sha256")
    }
    made["parity"] = {
        # Three digits: the last ones differ from one processor to the next.
        name: float(f"{value:.3g}") if isinstance(value, float) else value
        for name, value in report.parity.to_dict().items()
    }
    made["versions"] = versions()
    _append(path, RECORD, json.dumps(made, indent=2, allow_nan=False) + "\n")


def _metadata(inputs) -> dict[str, Any]:
    """The metadata of a model, as `pack_metadata` takes it."""
    entry: dict[str, Any] = {"name": "images"}
    output: dict[str, Any] = {"name": "output"}
    if inputs.takes_pixels:
        entry |= _pixels(inputs.model.input_shape[1:])
    if inputs.labels is not None:
        output["content"] = {"content_properties": {"FeatureProperties": {}}}
        output["associated_files"] = [
            {
                "name": LABELS,
                "description": "class names, in the order of the output",
                "type": "TENSOR_AXIS_LABELS",
            }
        ]
    metadata = {
        "name": inputs.model.name,
        "description": inputs.description,
        "license": inputs.licence,
        "subgraph_metadata": [
            {"input_tensor_metadata": [entry], "output_tensor_metadata": [output]}
        ],
        "associated_files": [
            {
                "name": RECORD,
                "description": "how the file was made and what was measured",
                "type": "DESCRIPTIONS",
            }
        ],
        "min_parser_version": "1.0.0",
    }
    return {name: value for name, value in metadata.items() if value is not None}


def _pixels(shape):
    """What an input of raw pixels is; the schema knows images of 1 and 3 channels."""
    height, width, channels = shape
    colours = {1: "GRAYSCALE", 3: "RGB"}.get(channels, "UNKNOWN")
    image = {
        "color_space": colours,
        "default_size": {"width": width, "height": height},
    }
    return {
        "description": "pixels 0..255 as they are; normalisation is inside",
        "content": {"content_properties": {"ImageProperties": image}},
        # (pixel - 0) / 1. A mean and std per channel, which MediaPipe refuses, are
        # inside the model.
        "process_units": [
            {"options": {"NormalizationOptions": {"mean": [0.0], "std": [1.0]}}}
        ],
        "stats": {"max": [255.0], "min": [0.0]},
    }


def _append(path, name, text):
    """Add a file to the archive behind a model, the same bytes at any time."""
    entry = zipfile.ZipInfo(name)  # of 1980, not compressed: readers map it in memory
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, text)
