"""The report of a segmenter, for LiteRT and for an Ethos-U."""

import csv

import numpy as np
import pytest

import export
from tests.export.comparison_report.page_reader import Page
from tests.export.dense_models import CLASSES, SIZE, dense, pictures
from vit_keras.preprocessing import to_photograph

TARGETS = ("any", "ethos_u55")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "masks.npz"
    masks = np.random.default_rng(2).integers(0, len(CLASSES), (10, *SIZE))
    masks[:, :4] = 255
    photos = pictures(10)
    np.savez(path, images=photos, masks=masks.astype("uint8"), classes=CLASSES)
    return path


@pytest.fixture(scope="module")
def report(data, tmp_path_factory):
    return export.write_report(
        dense(),
        data,
        tmp_path_factory.mktemp("report"),
        schemes=("int8",),
        targets=TARGETS,
        layers=False,
        runs=1,
    )


def reported(report, data):
    """(photographs, masks) that are not in the calibration."""
    used = {x.tobytes() for x in np.load(report.page.with_name("calibration.npy"))}
    with np.load(data) as stored:
        photos, masks = stored["images"], stored["masks"]
    rows = [i for i, x in enumerate(photos) if x.tobytes() not in used]
    return photos[rows], masks[rows]


@pytest.mark.parametrize("target", TARGETS)
def test_mean_iou_is_that_of_the_file(report, data, target):
    from ai_edge_litert.interpreter import Interpreter

    with report.table.open(encoding="utf-8", newline="") as file:
        (row,) = (r for r in csv.DictReader(file) if r["target"] == target)
    path = report.page.parent / row["file"]
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    entry, end = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = end["quantization"]
    photos, masks = reported(report, data)
    assert len(photos) == 8 == int(row["images"])
    matrix = np.zeros((len(CLASSES),) * 2)
    for photo, mask in zip(photos, masks, strict=True):
        interpreter.set_tensor(entry["index"], photo[None])
        interpreter.invoke()
        values = interpreter.get_tensor(end["index"])[0].astype("float32")
        values = (values - zero) * scale if scale else values
        if values.shape[:2] != SIZE:  # of the decoder's own size
            assert target == "ethos_u55"
            prep = dense().config.preprocessing
            values = to_photograph(values, SIZE, prep)
        known = mask != 255
        np.add.at(matrix, (mask[known], values.argmax(-1)[known]), 1)
    right = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - right
    iou = (right / union)[union > 0].mean()
    # Interpreters of one and of two threads round few of the int8 values differently.
    assert float(row["value"]) == pytest.approx(iou, abs=0.005)
    assert row["metric"] == "mean_iou" and float(row["noise"]) > 0
    assert 0.5 < float(row["agreement"]) <= 1


def test_vela_estimates_are_in_the_table(report):
    pytest.importorskip("ethosu.vela")
    with report.table.open(encoding="utf-8", newline="") as file:
        (row,) = (r for r in csv.DictReader(file) if r["target"] == "ethos_u55")
    assert float(row["estimate_ms"]) > 0 and float(row["sram_kb"]) > 0
    assert row["supported"] == "yes" and "vela" in row["tool"]
    page = Page(report.page.read_text(encoding="utf-8"))
    assert f"{float(row['estimate_ms']):g} ms" in page.text and "KB SRAM" in page.text


def test_pictures_are_masks_of_truth_keras_and_file(report):
    page = Page(report.page.read_text(encoding="utf-8"))
    assert len(page.images) == 3 * 8 and page.outside == []
    assert page.text.count("truth") == 8 and "as Keras" in page.text
    assert all(name in page.text for name in CLASSES)
    assert "mean IoU" in page.text and "Mean IoU against cost" in page.text
