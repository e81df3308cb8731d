"""Metadata of a `.tflite` file, in the published TFLite metadata schema.

Apps that read it, such as those built on MediaPipe Tasks, learn that the input takes
raw pixels, and the class names.
"""

import json
import pathlib
import zipfile
from typing import Any

from ..evaluation.reference import UNNAMED
from ..flatbuffer.metadata import DEPTHS, ENTRY, RECORD, SEGMENTER
from ..flatbuffer.objects import pack, unpack
from ..inputs import ExportInputs
from ..report import ExportReport, versions

LABELS = "labels.txt"
# Fields of the report to record: no local paths, nothing that is elsewhere in the file.
RECORDED = ("scheme", "target", "input", "output", "head", "activation")
RECORDED += ("preprocessing", "rewrites")


def embed(path, inputs: ExportInputs, class_map: bool = False):
    """Add metadata to a file, and append the labels.

    Arguments:
        path: a `.tflite` file, rewritten.
        inputs: of the export, for preprocessing, labels, description and licence.
        class_map: whether it ends in classes instead of the model's outputs.
    """
    from ai_edge_litert import schema_py_generated as schema

    from ..flatbuffer.metadata_schema import pack_metadata

    path = pathlib.Path(path)
    model = unpack(path.read_bytes())
    model.buffers.append(
        schema.BufferT(data=pack_metadata(_metadata(inputs, class_map)))
    )
    entry = schema.MetadataT(name=ENTRY.encode(), buffer=len(model.buffers) - 1)
    model.metadata = [*(model.metadata or ()), entry]
    path.write_bytes(pack(model))
    if (names := _classes(inputs)) is not None:
        _append(path, LABELS, "\n".join(names) + "\n")


def record(path, report: ExportReport):
    """Append the record of how a file was made and what was measured.

    The model inside, which was measured, stays unchanged.
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
    if len(report.outputs) > 1:
        made["outputs"] = {x.name: f"{x}, {x.parity}" for x in report.outputs}
    _append(path, RECORD, json.dumps(made, indent=2, allow_nan=False) + "\n")


def _metadata(inputs, class_map) -> dict[str, Any]:
    """Return the metadata of a model, in the form of `pack_metadata`."""
    entry: dict[str, Any] = {"name": "images"}
    names = inputs.names or (UNNAMED,)
    outputs: dict[str, dict[str, Any]] = {name: {"name": name} for name in names}
    if inputs.takes_pixels:
        entry |= _pixels(inputs.model.input_shape[1:])
    if _classes(inputs) is not None:
        binary = inputs.outputs.head == "sigmoid"  # no axis has both classes
        output = outputs[inputs.labelled or UNNAMED]
        described = "class names, in the order of the output"
        if binary:
            described = (
                "class names, the second that of a positive logit, or a "
                "probability above 0.5"
            )
        elif class_map:
            described = "class names; each value is the index of one"
        output["content"] = {"content_properties": {"FeatureProperties": {}}}
        output["associated_files"] = [
            {
                "name": LABELS,
                "description": described,
                "type": "TENSOR_VALUE_LABELS"
                if binary or class_map
                else "TENSOR_AXIS_LABELS",
            }
        ]
    if inputs.outputs.depth_type is not None:
        described = DEPTHS[inputs.outputs.depth_type]
        outputs[inputs.labelled or names[0]]["description"] = described
    graph: dict[str, Any] = {
        "input_tensor_metadata": [entry],
        "output_tensor_metadata": list(outputs.values()),
    }
    if inputs.outputs.segments and not class_map:
        graph["custom_metadata"] = [{"name": SEGMENTER, "data": _segmenter(inputs)}]
    metadata = {
        "name": inputs.model.name,
        "description": inputs.description,
        "license": inputs.licence,
        "subgraph_metadata": [graph],
        "associated_files": [
            {
                "name": RECORD,
                "description": "how the file was made and what was measured",
                "type": "DESCRIPTIONS",
            }
        ],
        # That of the newest field in use.
        "min_parser_version": "1.5.0" if "custom_metadata" in graph else "1.0.0",
    }
    return {name: value for name, value in metadata.items() if value is not None}


def _segmenter(inputs) -> bytes:
    """What MediaPipe's ImageSegmenter does with the outputs."""
    from ..flatbuffer.metadata_schema import pack_metadata

    activation = "NONE" if inputs.outputs.is_probability else "SOFTMAX"
    options = {"activation": activation, "min_parser_version": "1.0.0"}
    return pack_metadata(options, "ImageSegmenterOptions")


def _classes(inputs) -> list[str] | None:
    """The labels, if they are not those of values."""
    kind = inputs.outputs.kind
    return inputs.labels if kind is None or kind.probability else None


def _pixels(shape):
    """Describe an input of raw pixels; the schema knows images of 1 and 3 channels."""
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
    """Append a file to the zip archive behind a model, with reproducible bytes."""
    entry = zipfile.ZipInfo(name)  # dated 1980; stored, so that it can be mapped
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    # By its path zipfile would begin a new archive in place of a file that cannot be
    # opened, and the model would be gone.
    with open(path, "r+b") as file, zipfile.ZipFile(file, "a") as archive:
        archive.writestr(entry, text)
