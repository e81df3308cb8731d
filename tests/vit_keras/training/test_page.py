"""The page at the end of a run, of every kind of head."""

import csv
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.models import tiny
from tests.vit_keras.training.runs import SHORT, few, quiet
from vit_keras.data import Dataset
from vit_keras.training import train
from vit_keras.training.curves import draw_curves
from vit_keras.training.page import PICTURES, make_page

HISTORY = [
    {"step": 10, "loss": 2.0, "accuracy": 0.3, "val_loss": 1.9, "val_accuracy": 0.4},
    {"step": 20, "loss": 1.0, "accuracy": 0.6, "val_loss": 1.5, "val_accuracy": 0.5},
]
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype("uint8")


class Page(HTMLParser):
    """Text of the headings, table rows and captions; all elements must be closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.images = [], [], 0
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img"
        if tag not in ("img", "meta", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("circle", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.texts.append(data.strip())


def page_of(labels, outputs, head="softmax", classes=("a", "b")):
    config = tiny(classes=len(outputs[0]), head=head)
    dataset = Dataset(PIXELS, np.array(labels), classes, head)
    return Page(make_page(config, HISTORY, dataset, np.array(outputs, "float32")))


def test_classes():
    outputs = [[2, 0], [3, 0], [0, 1], [9, 0]]
    page = page_of([0, 1, 1, 1], outputs, classes=("<a>", "b"))
    assert "4 held-out images: accuracy 0.5000, loss 3.1222." in page.texts
    at = page.texts.index("recall")
    # class, images, recall, precision: 1 of 1 and 1 of 3, 1 of 3 and 1 of 1
    assert page.texts[at + 2 : at + 6] == ["<a>", "1", "100.0%", "33.3%"]
    assert page.texts[at + 6 : at + 10] == ["b", "3", "33.3%", "100.0%"]
    at = page.texts.index("Rows are true classes, columns predicted ones.")
    assert page.texts[at + 1 : at + 8] == ["<a>", "b", "<a>", "1", "b", "2", "1"]
    # The surest mistake first; what is right is none.
    assert page.images == 2
    assert page.texts[-4:] == ["b →", "<a> 100%", "b →", "<a> 95%"]


def test_two_classes_of_one_output():
    page = page_of([0, 1, 1, 0], [[-1], [2], [-3], [-1]], "sigmoid")
    assert any("accuracy 0.7500" in text for text in page.texts)
    assert page.texts[-2:] == ["b →", "a 95%"]


def test_labels():
    truth = np.array([[1, 0], [1, 1], [0, 0], [0, 0]], "float32")
    page = page_of(truth, [[1, -1], [1, 2], [-4, 3], [-1, -1]], "multi_label")
    assert any("mean average precision 0.7500" in text for text in page.texts)
    assert page.texts[-2:] == ["none →", "b"]  # the only mistake


def test_values():
    truth = np.array([[1.0], [2], [3], [4]], "float32")
    page = page_of(truth, truth + [[0], [0.5], [-2], [0]], "regression", ("age",))
    assert "0.625" in page.texts  # mean absolute error
    assert page.texts[-4:] == ["3 →", "1", "2 →", "2.5"]


def test_no_mistake_and_no_image_held_out():
    page = page_of([0, 1, 1, 0], [[9, 0], [0, 9], [0, 9], [9, 0]])
    assert page.texts[-1] == "None." and page.images == 0
    page = Page(make_page(tiny(), HISTORY, None))
    assert page.texts[-1].startswith("No images were held out")


def test_only_the_most_confused_of_many_classes():
    names = tuple(f"c{i}" for i in range(60))
    labels = np.arange(60)
    outputs = 20 * np.eye(60, dtype="float32")
    outputs[50], outputs[7] = outputs[7].copy(), outputs[50].copy()
    pixels = np.zeros((60, 8, 8, 3), "uint8")
    dataset = Dataset(pixels, labels, names)
    page = make_page(tiny(classes=60), HISTORY, dataset, outputs)
    matrix = page[page.index("Confusion matrix") :]
    assert "The 40 most confused of 60 classes." in matrix
    assert "<th>c50</th>" in matrix and "<th>c59</th>" not in matrix


@pytest.mark.parametrize("number", [1, 2])
def test_curves_show_what_was_measured(number):
    text = make_page(tiny(), HISTORY[:number], None)
    assert len(re.findall("<polyline", text)) == 4
    for label in ("val accuracy 0.4", "loss 2")[: 2 if number == 1 else 0]:
        assert label in text
    assert "step 10" in text and f">{10 * number}<" in text


@pytest.mark.usefixtures("eager")
def test_a_run_leaves_it(tmp_path):
    recipe = SHORT.replace(validation_split=0.5)
    train(few(), recipe, out=tmp_path, console=quiet())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    with (tmp_path / "history.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    # Its figures are those of the last weights, measured anew.
    share = float(last["val_accuracy"])
    assert any(f"accuracy {share:.4f}" in words for words in page.texts)
    assert 0 < page.images <= PICTURES
    assert "http" not in text  # one file, nothing is loaded


def test_curves_of_values_that_are_not_finite():
    rows = [{"step": s, "loss": 1.0, "val_loss": float("nan")} for s in (1, 2, 3)]
    rows[1]["val_loss"] = 2.0
    drawn = draw_curves(rows, "accuracy")
    assert "nan" not in drawn
    # The middle of three steps, at the top.
    assert '<polyline class="held" points="240.0,40.0"/>' in drawn
    lost = [{"step": 1, "loss": 1.0, "val_accuracy": float("nan")}]
    assert draw_curves(lost, "accuracy").count("<svg") == 1
