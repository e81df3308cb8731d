"""Tables of files and labels, and labels of every head."""

import json

import numpy as np
import pytest

from tests.vit_keras.pictures import pictures
from vit_keras import Preprocessing, data

FILES = ("a.png", "b.png", "deep/c.png", "d.png")


@pytest.fixture
def root(tmp_path):
    return pictures(tmp_path, *FILES)


def table(root, labels, header="file,label", suffix=".csv", **more):
    """Write a table of `FILES`; return its path."""
    path = root / f"table{suffix}"
    if suffix == ".csv":
        lines = [f"{f},{k}" for f, k in zip(FILES, labels, strict=True)]
        text = "\n".join([header, *lines]) + "\n"
    else:
        columns = header.split(",")
        rows = [
            dict(zip(columns, r, strict=True)) for r in zip(FILES, labels, strict=True)
        ]
        text = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    path.write_text(text, **more)
    return path


def refused(path, *words):
    with pytest.raises(ValueError) as caught:
        data.open_splits(path)
    for word in words:
        assert word in str(caught.value), caught.value


CASES = [
    (["dog", "cat", "cat", "cow"], "softmax", ("cat", "cow", "dog"), [2, 0, 0, 1]),
    ([10, 9, 9, 10], "softmax", ("9", "10"), [1, 0, 0, 1]),
    ([0.5, 2, -1e3, 7], "regression", ("value",), [[0.5], [2], [-1000], [7]]),
]
CSV_CASES = [
    *CASES,
    (["3.0", "4.0", "3.0", "4.0"], "regression", ("value",), [[3], [4], [3], [4]]),
    (["07", "7", "07", "7"], "softmax", ("07", "7"), [0, 1, 0, 1]),
    (["3", "cat", "3", "3"], "softmax", ("3", "cat"), [0, 1, 0, 0]),
    (["1.", ".5", "2e1", "+1"], "regression", ("value",), [[1], [0.5], [20], [1]]),
    (
        ["cat|dog", "dog", "", " cat ; cow"],
        *("multi_label", ("cat", "cow", "dog")),
        [[1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 0]],
    ),
    (
        ["3|10", "10", "3", "3"],
        *("multi_label", ("3", "10")),
        [[1, 1], [0, 1], [1, 0], [1, 0]],
    ),
    (
        ["0.5;1", "2;3", "4;5", "6;7"],
        *("regression", ("value_0", "value_1")),
        [[0.5, 1], [2, 3], [4, 5], [6, 7]],
    ),
]
JSON_CASES = [
    *CASES,
    (["3", "4.5", "3", "3"], "softmax", ("3", "4.5"), [0, 1, 0, 0]),  # text is text
    (
        [["cat", "dog"], ["dog"], [], "cow"],
        *("multi_label", ("cat", "cow", "dog")),
        [[1, 0, 1], [0, 0, 1], [0, 0, 0], [0, 1, 0]],
    ),
    (
        [[0.5, 1], [2, 3], [4, 5], [6, 7]],
        *("regression", ("value_0", "value_1")),
        [[0.5, 1], [2, 3], [4, 5], [6, 7]],
    ),
]


@pytest.mark.parametrize(
    ("suffix", "case"),
    [(".csv", case) for case in CSV_CASES] + [(".jsonl", case) for case in JSON_CASES],
)
def test_labels_decide(root, suffix, case):
    given, head, classes, labels = case
    path = table(root, given, suffix=suffix)
    splits = data.open_splits(path)
    dataset = splits.train
    assert (dataset.head, dataset.classes) == (head, classes)
    np.testing.assert_array_equal(dataset.labels, np.array(labels))
    assert dataset.labels.dtype == ("int64" if head == "softmax" else "float32")
    assert dataset.images == [root / name for name in FILES]
    assert splits.problems == ()
    words = {"softmax": "classes", "multi_label": "multi-label"}.get(head, head)
    assert len(splits.notes) == 1 and words in splits.notes[0]
    ready, bad = data.prepare(dataset, (8, 8), Preprocessing())
    assert len(ready) == 4 and bad == []


@pytest.mark.parametrize("header", ["target", "Value"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_integers_are_targets_in_a_column_of_that_name(root, header, suffix):
    dataset = data.open_source(
        table(root, [1, 2, 3, 4], f"image,{header}", suffix=suffix)
    )
    assert dataset.head == "regression"
    assert dataset.labels.tolist() == [[1], [2], [3], [4]]
    text = data.open_splits(table(root, list("abab"), f"path,{header}", suffix=suffix))
    assert text.train.head == "softmax"


def test_notes_say_how_integers_were_understood(root):
    (note,) = data.open_splits(table(root, [1, 2, 1, 2])).notes
    assert "`label` holds integers: 2 classes" in note
    assert "for regression name it target" in note


@pytest.mark.parametrize(
    "header", ["File,Label", "path, labels", "image,class", " filename ,target"]
)
def test_headers(root, header):
    path = table(root, list("abab"), header, encoding="utf-8-sig")
    assert data.open_source(path).labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "header",
    ["name,label", "file,kind", "file;label", "file,path", "label,class", "file,File"],
)
def test_unknown_headers(root, header):
    refused(table(root, list("abab"), header), "Valid names", "filename", "target")


def test_absolute_paths_and_quotes(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("other") / "t.CSV"
    lines = [f'"{root / name}","a, b{i}"' for i, name in enumerate(FILES)]
    path.write_text("file,label\r\n" + "\r\n".join(lines), newline="")
    dataset = data.open_source(path)
    assert dataset.classes[0] == "a, b0" and dataset.images[2] == root / FILES[2]


def test_parts(root):
    rows = [
        "a.png,cat,train",
        "b.png,dog,Train",
        "deep/c.png,dog,val",
        "d.png,cat,test",
    ]
    path = root / "t.csv"
    path.write_text("\n".join(["file,label,split", *rows]))
    splits = data.open_splits(path)
    assert splits.counts() == {"train": 2, "validation": 1, "test": 1}
    assert splits.validation.classes == ("cat", "dog")
    assert splits.validation.labels.tolist() == [1] and splits.test.labels.tolist() == [
        0
    ]
    assert "has parts: train 2, validation 1, test 1 images" in splits.notes[1]
    assert data.open_source(path, held_out=True).images == [root / "d.png"]
    path.write_text("\n".join(["file,label,split", *rows[1:], "a.png,cow,test"]))
    refused(path, "train lacks: cat, cow (of test)")
    path.write_text("\n".join(["file,label,split", *rows[2:]]))
    with pytest.raises(ValueError, match="only: validation, test"):
        data.open_source(path)
    assert len(data.open_source(path, held_out=True)) == 1
    path.write_text("\n".join(["file,label,split", *rows[:3], "d.png,cat,dev"]))
    refused(path, "line 5", "`split` must be one of train, val", "'dev'")


def test_multi_label_parts(root):
    rows = ["a.png,x|y,train", "b.png,z,train", "d.png,z|x,test"]
    path = root / "t.csv"
    path.write_text("\n".join(["file,label,split", *rows]))
    assert data.open_source(path, True).labels.tolist() == [[1, 0, 1]]
    path.write_text("\n".join(["file,label,split", *rows, "deep/c.png,w,test"]))
    refused(path, "train lacks: w (of test)")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["0.5", "1.5", "nan", "2.5"], ["line 4", "all numbers or all text", "'nan'"]),
        (["0.5", "1.5", "", "2.5"], ["line 4", "Received: ''"]),
        (["a", "b", "", "a"], ["line 4", "must not be empty"]),
        (["a"] * 4, ["two classes at least"]),
        (["", "", "", ""], ["line 2", "must not be empty"]),
        (["a|a", "b", "a", "a"], ["line 2", "given once"]),
        (["0.5|1", "2", "3|4", "3|4"], ["line 3", "2 finite numbers"]),
        (["1e99", "2", "3", "4"], ["line 2", "finite"]),
        (["a,b", "a", "b", "b"], ["line 2", "2 columns"]),
    ],
)
def test_bad_csv_labels(root, labels, words):
    refused(table(root, labels), *words)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1, "a", 1, 2], ["line 2", "all numbers or all text", "'a'"]),
        ([True, False, True, True], ["line 1", "Received: True"]),
        ([None, 1, 2, 3], ["line 1", "Received: None"]),
        ([[1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1]], ["line 1", "by its name"]),
        ([{"a": 1}, 1, 2, 3], ["line 1", "lists"]),
        ([0.5, float("nan"), 1, 2], ["line 2", "finite"]),
        ([[], [], [], []], ["must have labels"]),
    ],
)
def test_bad_json_labels(root, labels, words):
    refused(table(root, labels, suffix=".jsonl"), *words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"", ["Valid names"]),
        ("t.csv", b"file,label\n", ["a row for each image"]),
        ("t.csv", b"file,label\na.png\n", ["line 2", "2 columns"]),
        ("t.csv", b"file,label\n,a\n", ["line 2", "path of a file"]),
        ("t.csv", b"file,label\n\xff,a\n", ["UTF-8"]),
        ("t.csv", b'file,label\n"a.png"x,a\n', ["must be CSV"]),
        ("t.jsonl", b"", ["a row for each image"]),
        ("t.jsonl", b"\n[1]\n", ["line 2", "an object"]),
        ("t.jsonl", b"{\n", ["line 1"]),
        ("t.jsonl", b'{"file": "a", "label": 1}\n{"file": "a"}', ["line 2", "Valid"]),
        ("t.jsonl", b'{"file": 3, "label": 1}', ["line 1", "path of a file"]),
        (
            "t.jsonl",
            b'{"file": "a", "label": 1, "id": 2}',
            ["Received: file, label, id"],
        ),
    ],
)
def test_bad_tables(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, *words)


def test_missing_files_and_duplicates(root):
    path = root / "t.csv"
    path.write_text("file,label\na.png,x\nb.png,y\nno.png,x\na.png,y\n")
    splits = data.open_splits(path)
    assert splits.problems == (
        "the same image with different labels: 1 (a.png = a.png)",
    )
    ready, bad = data.prepare(splits.train, (8, 8), Preprocessing())
    assert len(ready) == 3 and len(bad) == 1 and "no.png: no such file" in bad[0]


def test_tables_calibrate(root):
    path = table(root, list("abab"))
    assert data.load_images(path, (8, 8), Preprocessing()).shape == (4, 8, 8, 3)


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3)).astype("uint8")
MULTI = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 1]])
VALUES = np.linspace(-1, 3, 6)


@pytest.mark.parametrize(
    ("labels", "head", "classes"),
    [
        (np.eye(3)[[0, 1, 2, 0, 1, 2]], "softmax", ("0", "1", "2")),
        (MULTI, "multi_label", ("0", "1", "2")),
        (MULTI.astype(bool), "multi_label", ("0", "1", "2")),
        (VALUES, "regression", ("value",)),
        (VALUES[:, None], "regression", ("value",)),
        (np.stack([VALUES, VALUES], 1), "regression", ("value_0", "value_1")),
    ],
)
def test_arrays(labels, head, classes):
    splits = data.open_splits((IMAGES, labels))
    dataset = splits.train
    assert (dataset.head, dataset.classes) == (head, classes)
    if head == "softmax":
        assert dataset.labels.tolist() == [0, 1, 2, 0, 1, 2] and splits.notes == ()
        return
    assert dataset.labels.dtype == np.float32
    np.testing.assert_array_equal(
        dataset.labels, labels.reshape(6, -1).astype("float32")
    )
    assert head.replace("_", "-") in splits.notes[0]


def test_names_of_targets(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, images=IMAGES, labels=VALUES, classes=["age"])
    assert data.open_source(file).classes == ("age",)
    np.savez(file, images=IMAGES, labels=MULTI, classes=["x", "y"])
    refused(file, "`classes` must be two or more")
    for bad in (VALUES * np.nan, VALUES * 1e300):
        refused((IMAGES, bad), "finite")


@pytest.mark.parametrize("head", ["multi_label", "regression"])
def test_rows_of_labels(head):
    labels = MULTI.astype("float32")
    dataset = data.Dataset(IMAGES, labels, ("x", "y", "z"), head)
    np.testing.assert_array_equal(dataset.take([2, 0]).labels, labels[[2, 0]])
    rest, share = data.split(dataset, 0.3, seed=0)
    assert (len(rest), len(share), share.head) == (4, 2, head)
    both = np.concatenate([rest.images, share.images])
    assert sorted(x.tobytes() for x in both) == sorted(x.tobytes() for x in IMAGES)
    turned = data.match_classes(dataset, ("z", "x", "y"))
    np.testing.assert_array_equal(turned.labels, labels[:, [2, 0, 1]])
    assert turned.classes == ("z", "x", "y")
    np.testing.assert_array_equal(data.targets(dataset), labels)
    np.testing.assert_array_equal(data.targets(dataset, np.array([1])), labels[1:2])
    batches = data.Batches(dataset, (8, 8), Preprocessing(), 4)
    np.testing.assert_array_equal(batches[1][1], labels[4:])


def test_classes_that_the_data_lacks():
    labels = MULTI[:, :2].astype("float32")
    dataset = data.Dataset(IMAGES, labels, ("x", "y"), "multi_label")
    more = data.match_classes(dataset, ("y", "new", "x"))
    np.testing.assert_array_equal(more.labels[:, [2, 0]], labels)
    assert not more.labels[:, 1].any()
    numbers = data.Dataset(IMAGES, labels, ("x", "y"), "regression")
    with pytest.raises(ValueError, match="lacking: new"):
        data.match_classes(numbers, ("y", "new", "x"))


def test_targets_of_classes():
    dataset = data.Dataset(IMAGES, np.arange(6) % 2, ("no", "yes"))
    np.testing.assert_array_equal(data.targets(dataset), np.eye(2)[[0, 1] * 3])
    single = data.Dataset(IMAGES, np.arange(6) % 2, ("no", "yes"), "sigmoid")
    found = data.targets(single)
    assert found.dtype == np.float32
    assert found.tolist() == [[0], [1], [0], [1], [0], [1]]
