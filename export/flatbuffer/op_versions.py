"""Versions of operators by type, and the first runtime with each version.

The table is from `op_version.cc` and `runtime_version.cc` of LiteRT (github.com/
google-ai-edge/LiteRT, tflite/tools/versioning, read 2026-11): operator -> type of its
first activation -> (version, first runtime). Two types stand for activations and
weights that differ. Only operators of ViTs are listed. A runtime older than a file's
newest operator refuses the file.
"""

VERSIONS: dict[str, dict[str, tuple[int, str]]] = {
    "ADD": {"FLOAT32": (1, "1.5"), "INT8": (2, "1.14"), "INT16": (3, "2.4")},
    "ARG_MAX": {"FLOAT32": (1, "1.9"), "UINT8": (1, "1.9"), "INT8": (2, "1.14")},
    "BATCH_MATMUL": {"FLOAT32": (1, "2.3"), "INT8": (2, "2.3"), "INT16": (3, "2.4")},
    "CAST": {"UINT8": (1, "1.5"), "FLOAT32": (1, "1.5"), "INT32": (1, "1.5")},
    "CONCATENATION": {"FLOAT32": (1, "1.5"), "INT8": (2, "1.14"), "INT16": (3, "2.3")},
    "CONV_2D": {
        "FLOAT32": (1, "1.5"),
        "FLOAT32 INT8": (5, "2.4"),
        "INT8": (3, "1.14"),
        "INT16": (4, "2.3"),
    },
    "DEQUANTIZE": {
        "UINT8": (1, "1.5"),
        "INT8": (2, "1.14"),
        "INT16": (3, "1.15"),
        "FLOAT16": (3, "1.15"),
    },
    "DEPTHWISE_CONV_2D": {
        "FLOAT32": (1, "1.5"),
        "FLOAT32 INT8": (6, "2.3"),
        "INT8": (3, "1.14"),
        "INT16": (5, "2.3"),
    },
    "EXP": {"FLOAT32": (1, "1.7"), "INT8": (2, "2.12"), "INT16": (2, "2.12")},
    "FULLY_CONNECTED": {
        "FLOAT32": (5, "2.0"),  # keeps the leading axes
        "FLOAT32 INT8": (12, "2.17"),  # one scale per output channel
        "FLOAT32 INT4": (12, "2.17"),
        "INT8": (5, "2.0"),
        "INT8 INT4": (10, "2.11"),
        "INT16": (11, "2.15"),
    },
    # Those files do not list int16: 2.21 is the release it was tested with.
    "GELU": {"FLOAT32": (1, "2.9"), "INT8": (2, "2.9"), "INT16": (2, "2.21")},
    "LOGISTIC": {"FLOAT32": (1, "1.14"), "INT8": (2, "1.14"), "INT16": (3, "2.3")},
    "MEAN": {"FLOAT32": (1, "1.6"), "INT8": (2, "1.14"), "INT16": (3, "2.4")},
    "MUL": {"FLOAT32": (1, "1.5"), "INT8": (2, "1.14"), "INT16": (4, "2.3")},
    "QUANTIZE": {
        "FLOAT32": (1, "1.14"),
        "UINT8": (1, "1.14"),
        "INT8": (1, "1.14"),
        "INT16": (2, "1.15"),
    },
    "REDUCE_MAX": {"FLOAT32": (1, "1.11"), "INT8": (2, "1.14"), "INT16": (3, "2.5")},
    "RESHAPE": {"FLOAT32": (1, "1.5"), "INT8": (1, "1.5"), "INT16": (1, "1.5")},
    "RESIZE_BILINEAR": {  # with half-pixel centres
        "FLOAT32": (3, "2.2"),
        "INT8": (3, "2.2"),
        "INT16": (4, "2.5"),
    },
    "RSQRT": {"FLOAT32": (1, "1.10"), "INT8": (2, "2.5"), "INT16": (3, "2.15")},
    "SLICE": {"FLOAT32": (1, "1.14"), "INT8": (2, "1.14"), "INT16": (4, "2.4")},
    "SOFTMAX": {"FLOAT32": (1, "1.5"), "INT8": (2, "1.14"), "INT16": (3, "2.3")},
    "SPLIT": {"FLOAT32": (1, "1.5"), "INT8": (2, "1.14"), "INT16": (4, "2.3")},
    "STRIDED_SLICE": {"FLOAT32": (1, "1.6"), "INT8": (2, "1.14"), "INT16": (4, "2.2")},
    "SUB": {"FLOAT32": (1, "1.6"), "INT8": (2, "1.14"), "INT16": (5, "2.4")},
    "SUM": {"FLOAT32": (1, "1.10"), "INT8": (2, "1.15"), "INT16": (2, "1.15")},
    "TANH": {"FLOAT32": (1, "1.14"), "INT8": (2, "1.14"), "INT16": (3, "2.3")},
    "TRANSPOSE": {"FLOAT32": (1, "1.6"), "INT8": (2, "1.14"), "INT16": (5, "2.4")},
}


def needed(operator: str, types) -> tuple[int, str] | None:
    """Return (version, first runtime) of an operator, or None if it is not listed.

    Arguments:
        operator: its name in `schema.fbs`.
        types: of its inputs, in order.
    """
    row = VERSIONS.get(operator, {})
    pair = " ".join(types[:2])
    return row.get(pair) or row.get(types[0] if types else "")


def version_key(version: str) -> tuple[int, ...]:
    """Return a version as numbers, for comparison."""
    return tuple(int(part) for part in version.split("."))
