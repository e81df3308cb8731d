"""Every kind of data that can be named, and what is wrong with it."""

import sys

import keras
import numpy as np
import pytest
from PIL import Image

from tests.vit_keras.training.runs import SHORT, few, quiet, same
from vit_keras import Preprocessing, data
from vit_keras.data import sources
from vit_keras.data.sources import open_source
from vit_keras.preprocessing import ImageError
from vit_keras.training import train

RULES = Preprocessing()
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 8, 8, 3)).astype("uint8")
LABELS = np.arange(12) % 3


class Source:
    """What Grain and PyTorch call a data set; counts its readings."""

    def __init__(self, items, **attributes):
        self.items, self.reads = items, []
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, at):
        self.reads.append(at)
        if isinstance(self.items[at], Exception):
            raise self.items[at]
        return self.items[at]


def pairs():
    return list(zip(IMAGES, LABELS, strict=True))


def equal(dataset, images=IMAGES, labels=LABELS):
    assert len(dataset) == len(labels) and dataset.labels.dtype == np.int64
    np.testing.assert_array_equal(dataset.labels, labels)
    for i, image in enumerate(images):
        assert dataset.images[i].dtype == np.uint8
        np.testing.assert_array_equal(dataset.images[i], image)


def refused(given, *words, error=ValueError, **options):
    with pytest.raises(error) as caught:
        open_source(given, **options)
    for word in words:
        assert word in str(caught.value)


def test_what_was_accepted_before(tmp_path):
    dataset = data.Dataset(IMAGES, LABELS, ("a", "b", "c"))
    assert open_source(dataset) is dataset
    assert [len(open_source("digits", part)) for part in (False, True)] == [1438, 359]
    for i, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        Image.fromarray(IMAGES[i]).save(tmp_path / name / "x.png")
    assert open_source(str(tmp_path)).classes == ("a", "b")


@pytest.mark.parametrize("given", [3, None, {"image": 1}, IMAGES, b"digits"])
def test_unknown_kinds(given):
    refused(given, "`data` must be 'digits' or a folder", "Received")


def test_unknown_paths(tmp_path):
    refused(tmp_path / "no.npz", "'tfds:NAME[:SPLIT]'", error=FileNotFoundError)
    (tmp_path / "table.tsv").write_text("1,2")
    refused(tmp_path / "table.tsv", "an .npz file")


def test_arrays():
    equal(open_source((IMAGES, LABELS)))
    assert open_source((IMAGES, LABELS)).classes == ("0", "1", "2")
    equal(open_source((IMAGES, LABELS[:, None])))
    equal(open_source((IMAGES, np.eye(3)[LABELS])))
    assert len(open_source((IMAGES, np.eye(5)[LABELS])).classes) == 5
    equal(open_source((IMAGES[..., 0], LABELS.astype("uint8"))), IMAGES[..., :1])


@pytest.mark.parametrize(
    ("images", "labels", "word"),
    [
        (IMAGES / 255, LABELS, "0..255"),
        (IMAGES[0, 0], LABELS, "(N, H, W, C) or (N, H, W)"),
        (IMAGES.transpose(0, 3, 1, 2), LABELS, "C at most 4"),
        (IMAGES[:0], LABELS[:0], "`images` must be"),
        (IMAGES, LABELS[:5], "12 images, 5 labels"),
        (IMAGES, LABELS - 1, "from 0 on"),
        (IMAGES, LABELS * 10**9, "from 0 on"),
        (IMAGES, LABELS.astype(str), "integers"),
        (IMAGES, np.eye(3)[LABELS] * 0.9 + 0.1 / 3, "exactly one-hot"),
        (IMAGES, np.full((12, 3), 2), "exactly one-hot"),
        (IMAGES, LABELS * 0, "two or more"),
    ],
)
def test_bad_arrays(images, labels, word):
    refused((images, labels), word, "`")


def test_grey_is_repeated_for_a_model_of_colours():
    grey = open_source((IMAGES[..., 0], LABELS))
    ready, _ = data.prepare(grey, (8, 8), RULES)
    np.testing.assert_array_equal(ready.images, IMAGES[..., :1].repeat(3, axis=-1))
    four = open_source((IMAGES[..., [0, 1, 2, 2]], LABELS))
    with pytest.raises(ValueError, match="must have 3 channels"):
        data.prepare(four, (8, 8), RULES)


def test_npz(tmp_path):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, images=IMAGES, labels=LABELS, classes=["x", "y", "z"])
    for given in (file, str(file)):
        equal(open_source(given))
        assert open_source(given, held_out=True).classes == ("x", "y", "z")
    test = {"x_test": IMAGES[:6], "y_test": LABELS[:6]}
    np.savez(file, x_train=IMAGES, y_train=LABELS, **test)
    equal(open_source(file))
    equal(open_source(file, held_out=True), IMAGES[:6], LABELS[:6])


def test_bad_npz(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, images=IMAGES, labels=LABELS, classes=["x", "y"])
    refused(file, "2 classes, labels up to 2")
    np.savez(file, images=IMAGES, labels=LABELS, classes=["x", "y", "y"])
    refused(file, "different names")
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[300] ^= 255
    for content in (whole[:-40], whole[:100], bytes(changed), b"", b"hello"):
        file.write_bytes(content)
        refused(file, "is no whole .npz file")
    with file.open("wb") as stream:
        np.save(stream, IMAGES)
    refused(file, "is no whole .npz file")
    np.savez(file, images=IMAGES, labels=np.array([None] * 12), allow_pickle=True)
    refused(file, "is no whole .npz file", "holds pickled objects")
    np.savez(file, pixels=IMAGES)
    refused(file, "holds", "pixels")
    np.savez(file, x_train=IMAGES, y_train=LABELS)
    refused(file, "x_test", held_out=True)


@pytest.mark.parametrize("form", ["pair", "list", "dict", "grey", "pillow"])
def test_random_access(form):
    forms = {
        "pair": lambda image, label: (image, label),
        "list": lambda image, label: [image, int(label)],
        "dict": lambda image, label: {"image": image, "label": label, "id": 1},
        "grey": lambda image, label: (image[..., 0], label),
        "pillow": lambda image, label: (Image.fromarray(image), label),
    }
    source = Source([forms[form](*pair) for pair in pairs()])
    dataset = open_source(source)
    assert isinstance(dataset.images, data.LazyImages)
    assert sorted(source.reads) == list(range(12))  # once, for the labels
    equal(dataset, IMAGES[..., :1] if form == "grey" else IMAGES)
    assert dataset.classes == ("0", "1", "2")


def test_pillow_palette_has_colours():
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 9, 8, 7])
    dataset = open_source(Source([(picture, 0), (picture, 1)]))
    assert dataset.images[0][0, 0].tolist() == [9, 8, 7]


def test_lists_and_classes():
    equal(open_source(pairs()))
    assert open_source(Source(pairs(), classes=["x", "y", "z"])).classes == tuple("xyz")
    refused(Source(pairs(), classes=["x", "y"]), "2 classes")


def test_taking_reads_nothing():
    source = Source(pairs())
    dataset = open_source(source)
    source.reads.clear()
    rest, share = data.split(dataset, 0.25, seed=0)
    part = rest.take(np.array([3, 1]))
    assert source.reads == [] and len(rest) + len(share) == 12
    image = part.images[0]
    assert len(source.reads) == 1
    np.testing.assert_array_equal(image, IMAGES[source.reads[0]])


@pytest.mark.parametrize(
    ("items", "word"),
    [
        ([], "finite length"),
        ([(IMAGES[0] / 255, 0)], "float64"),
        ([(IMAGES, LABELS)], "(H, W, C)"),
        ([(IMAGES[0].transpose(2, 0, 1), 0)], "(H, W, C)"),
        ([IMAGES[0]], "(image, label)"),
        ([(IMAGES[0], 0, 1.0)], "(image, label)"),
        ([{"image": IMAGES[0], "y": 1}], "['image', 'y']"),
        ([(IMAGES[0], 0), (IMAGES[0], np.eye(2)[0])], "same shape"),
        ([(IMAGES[0], -1), (IMAGES[0], 1)], "from 0 on"),
        ([OSError("gone")], "OSError: gone"),
    ],
)
def test_bad_sources(items, word):
    refused(Source(items), word)


def test_corrupt_items_are_skipped():
    items = pairs()
    items[0] = OSError("gone")
    items[7] = RuntimeError("broken record")
    source = Source(items)
    dataset = open_source(source)
    # What could not be read for its label stays out, were it readable later.
    source.items[0] = (IMAGES[0], 0)
    ready, bad = data.prepare(dataset, (8, 8), RULES)
    equal(ready, np.delete(IMAGES, [0, 7], 0), np.delete(LABELS, [0, 7]))
    assert len(bad) == 2 and "item 0 of Source: OSError: gone" in bad[0]
    with pytest.raises(ImageError, match="item 0"):
        data.prepare(dataset, (8, 8), RULES, strict=True)
    assert len(data.prepare(dataset, (8, 8), RULES, keep_pixels=False)[0]) == 10


def test_grain_by_name(tmp_path, monkeypatch):
    (tmp_path / "own_data.py").write_text(
        "import numpy as np\n"
        "class Made:\n"
        "    def __len__(self): return 2\n"
        "    def __getitem__(self, at): return np.zeros((4, 4, 3), 'uint8'), at\n"
        "made = Made()\n"
        "def function(): return made\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Made", "made", "function"):
        assert open_source(f"grain:own_data:{name}").labels.tolist() == [0, 1]
    refused("grain:own_data:number", "`data` must be")
    for name in ("own_data:other", "no_such_module:made", "", "a b:c"):
        refused(f"grain:{name}", "grain:MODULE:ATTRIBUTE")


def test_grain_pipelines():
    grain = pytest.importorskip("grain", reason="needs the extra `data`")
    dataset = grain.MapDataset.source(pairs())
    equal(open_source(dataset))
    flipped = dataset.map(lambda item: (item[0][:, ::-1], item[1]))
    equal(open_source(flipped[2:6]), IMAGES[2:6, :, ::-1], LABELS[2:6])
    refused(dataset.repeat(), "finite length")
    refused(dataset.batch(4), "(H, W, C)")
    equal(open_source(dataset.to_iter_dataset()))  # into memory
    refused(iter([]), "a label for each image")


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A data set of TensorFlow Datasets: 12 images to train on, 6 to test on."""
    tfds = pytest.importorskip(
        "tensorflow_datasets", reason="needs the extra `data`", exc_type=ImportError
    )
    pytest.importorskip("tensorflow", reason="writes it")

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(shape=(8, 8, 3))
            label = tfds.features.ClassLabel(names=["x", "y", "z"])
            features = tfds.features.FeaturesDict({"image": image, "label": label})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(12), "test": self._part(6)}

        def _generate_examples(self, number):
            for i in range(number):
                yield str(i), {"image": IMAGES[i], "label": LABELS[i]}

        _part = _generate_examples

    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    Tiny(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def rows(dataset):
    """Images and labels in an order that the writer's shuffling does not change."""
    found = [
        (dataset.images[i].tobytes(), int(k)) for i, k in enumerate(dataset.labels)
    ]
    return sorted(found)


def expected(number):
    return sorted((IMAGES[i].tobytes(), int(LABELS[i])) for i in range(number))


def test_tfds(tfds_folder, monkeypatch):
    import tensorflow_datasets as tfds

    load, folder = tfds.data_source, str(tfds_folder)
    monkeypatch.setattr(
        tfds,
        "data_source",
        lambda name, split: load(name, split=split, data_dir=folder),
    )
    decoded = []
    decode = tfds.features.Image.decode_example_np
    monkeypatch.setattr(
        tfds.features.Image,
        "decode_example_np",
        lambda self, example: decoded.append(1) or decode(self, example),
    )
    dataset = open_source("tfds:tiny")
    assert decoded == [] and dataset.classes == ("x", "y", "z")
    assert rows(dataset) == expected(12) and len(decoded) == 12
    assert rows(open_source("tfds:tiny", held_out=True)) == expected(6)
    assert rows(open_source("tfds:tiny:test")) == expected(6)
    assert rows(open_source("tfds:tiny:1.0.0:test")) == expected(6)
    assert len(open_source("tfds:tiny:train[:50%]")) == 6
    assert rows(open_source(load("tiny", split="train", data_dir=folder))) == expected(
        12
    )
    source = load("tiny", split="train", data_dir=folder)
    del source.dataset_info.features._feature_dict["label"]
    refused(source, "the features image and label", "Received: image")
    for name in ("tiny:other", "no_such_data_set"):
        refused(f"tfds:{name}", "data set of TFDS", name.partition(":")[0])


def test_tfds_in_threads(tfds_folder):
    """No lock is needed: array_record and the decoder bear many readers."""
    import tensorflow_datasets as tfds

    folder = str(tfds_folder)
    dataset = open_source(tfds.data_source("tiny", split="train", data_dir=folder))
    found = data.in_threads(lambda i: dataset.images[i % 12].tobytes(), 600)
    once = [dataset.images[i].tobytes() for i in range(12)]
    assert list(found) == once * 50


def test_tfds_in_another_format(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets", reason="needs the extra `data`")

    def fail(name, split):
        raise NotImplementedError("no random access to TFRECORD\nand more")

    monkeypatch.setattr(tfds, "data_source", fail)
    refused("tfds:tiny", "array_record", "(no random access to TFRECORD)")


@pytest.mark.parametrize("package", ["tensorflow_datasets", "array_record"])
def test_missing_extra(monkeypatch, package):
    pytest.importorskip("array_record", reason="needs the extra `data`")
    monkeypatch.setitem(sys.modules, package, None)
    refused("tfds:mnist", "vit-keras-edge[data]", package, error=ImportError)


def test_tf_data(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    flat = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    equal(open_source(flat))
    equal(open_source(flat.batch(5)))
    equal(open_source(flat.map(lambda image, label: (image, tf.one_hot(label, 3)))))
    named = flat.map(lambda image, label: {"image": image, "label": label})
    equal(open_source(named.batch(5)))
    grey = flat.map(lambda image, label: (image[..., 0], label))
    for given in (grey, grey.batch(5)):
        equal(open_source(given), IMAGES[..., :1])
    ready, _ = data.prepare(open_source(flat), (8, 8), RULES)
    equal(ready)
    refused(flat.repeat(), "finite", "random-access source")
    refused(flat.take(0), "a label for each image")
    refused(flat.map(lambda image, label: image), "(image, label)")
    refused(flat.map(lambda image, label: (image / 255, label)), "0..255")
    monkeypatch.setattr(sources, "STREAM_BYTES", 1000)
    refused(flat, "at most 1000 bytes", "folder")
    endless = flat.repeat().filter(lambda image, label: True)  # its length is unknown
    refused(endless, "at most 1000 bytes")


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("lazy", [pytest.param("kept", marks=pytest.mark.slow), "crop"])
def test_training_equals_that_from_arrays(tmp_path, lazy):
    digits = few()
    recipe = SHORT.replace(epochs=1)
    if lazy == "crop":  # needs whole images in each step
        recipe = recipe.replace(crop=0.5)
    items = list(zip(digits.images, digits.labels, strict=True))
    source = Source(items, classes=digits.classes)
    first = train(digits, recipe, out=tmp_path / "a", console=quiet())
    second = train(source, recipe, out=tmp_path / "b", console=quiet())
    assert same(first, second)
    keras.backend.clear_session()
