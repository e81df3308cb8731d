"""The error of each part in int8, estimated without a file for each."""

import numpy as np
import pytest

import export
from export.evaluation.runners import load, run_on_all_cores
from export.evaluation.verify import least_sqnr
from export.flatbuffer.graph_editor import GraphEditor
from export.graph.build import inference_graph
from export.quantization import accuracy_budget, calibration, mixed_precision
from export.quantization import part_sensitivity as estimates
from export.quantization.post_training import quantize_static
from export.resolve import only, resolve
from export.tflite.converter import convert
from tests.models import exported
from vit_keras import Preprocessing


def float_file(model, pixels, path, target=None):
    plan = resolve("int8", target, has_calibration=True, min_sqnr=1.0)
    graph = inference_graph(model, Preprocessing(), pixels, plan.graph)
    convert(graph.function, model, path, plan)
    return path, calibration.measure_ranges(path, pixels)


def ranks(values):
    return np.argsort(np.argsort(values))


@pytest.mark.parametrize("target", [None, "ethos_u85"])
def test_estimate_agrees_with_a_file_of_each_part(pixels, target, tmp_path):
    model = exported(num_layers=2)
    path, ranges = float_file(model, pixels, tmp_path / "m.tflite", target)
    parts = mixed_precision.find_parts(path, "float32")
    found = estimates.sensitivity(path, ranges, pixels, parts)
    assert list(found) == [part.name for part in parts]
    images, measured = pixels[: estimates.IMAGES], {}
    for part in parts:
        overrides = [*only(()), *part.overrides("int8")]
        alone = tmp_path / "alone.tflite"
        alone.write_bytes(
            quantize_static(path, ranges, "float32", "float32", overrides)
        )
        measured[part.name] = least_sqnr(load(path).all(images), load(alone).all(images))
    a, b = (np.array([d[part.name] for part in parts]) for d in (found, measured))
    print(np.round(a,1), np.round(b,1), a-b)
    assert np.corrcoef(ranks(a), ranks(b))[0, 1] > 0.9
    assert np.abs(a - b).max() < 1
