"""Every function that reads a user's file: what is read, and how it may refuse.

A row has small whole files, which of them is changed, and the call of a user that reads
it whole. Its errors are those that the function's documentation names.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import calls
from . import seed_files as seeds

Files = seeds.Files


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes:
        name: what is read, and by what.
        kind: what the file is made of, a name in `mutations.KINDS`, or "bytes".
        file: which of the files is changed.
        files: functions that give whole files, {path in a folder: content}.
        read: reads what is in a folder, and uses it as far as a user would.
        errors: that it may raise.

    """

    name: str
    kind: str
    file: str
    files: Sequence[Callable[[], Files]]
    read: Callable[[pathlib.Path], Any]
    errors: tuple[type[BaseException], ...] = (ValueError, FileNotFoundError)


MODEL, TABLE, TFLITE = "model.keras", "table.csv", "m.tflite"
PB, VARIABLES = "1/saved_model.pb", "1/variables/variables.data-00000-of-00001"
INDEX, WARM = "1/variables/variables.index", "1/assets.extra/tf_serving_warmup_requests"
CSV = "file,label\na.png,cat\nb.png,dog\n"
SPLIT = "file,label,split\na.png,1|2,train\nb.png,2,val\n"
JSONL = '{"file": "a.png", "label": ["cat"]}\n{"file": "b.png", "label": ["dog"]}\n'
CLASSES = b'{"classes": ["a", "b", "c"], "numbers": [0, 1, 2], "ignore": 2}'
RULES = b'{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop": 0.9}'


def golden(*names: str):
    """Functions that give golden folders."""
    return [lambda name=name: seeds.golden(name) for name in names]


def one(name: str, *contents: Callable[[], bytes]):
    """Functions that give one file each."""
    return [lambda make=make: {name: make()} for make in contents]


def table(text: str, name: str = TABLE):
    """A function that gives a table beside its images."""
    return lambda: {**seeds.table(""), name: text.encode()}


def labelled(compressed: bool = False) -> bytes:
    """Return an `.npz` of images and labels."""
    images, names = seeds.pixels(), np.array(["a", "b", "c"])
    labels = np.arange(6) % 3
    return seeds.arrays(compressed, images=images, labels=labels, classes=names)


def masked() -> bytes:
    """Return an `.npz` of images and masks."""
    masks = np.ones((6, *seeds.SIZE), "uint8")
    return seeds.arrays(
        images=seeds.pixels(), masks=masks, classes=np.array(["a", "b"])
    )


def kept() -> bytes:
    """Return what was found about a file."""
    return b'{"size": {"of": {"a": 1}, "found": 5}, "time": {"of": {}, "found": null}}'


def recipe() -> bytes:
    """Return the settings of a run."""
    from vit_keras.training.recipe import Recipe

    return json.dumps(Recipe().to_dict()).encode()


def _rows():
    folder = calls.weights()
    image_kinds = [
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "I;16", {}),
        ("WEBP", "RGB", {}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("GIF", "P", {}),
    ]
    pictures = [
        lambda k=k, m=m, how=how: seeds.image(k, mode=m, **how)
        for k, m, how in image_kinds
    ]
    depth = np.ones(seeds.SIZE, "float32")
    pair, tree = seeds.pairs, seeds.saved_model
    text_masks = {
        "classes.txt": b"a\nb\nc\n",
        "class_dict.csv": b"name,r,g,b\na,0,0,0\nb,1,1,1\nc,2,2,2\n",
        "labelmap.txt": b"# x\na:0,0,0::\nb:1,1,1::\nc:2,2,2::\n",
        "ImageSets/Segmentation/train.txt": b"a\nb\n",
    }
    yield "weights .npz", "zip", "model.npz", golden("augreg-token", "bv-gap"), folder
    yield (
        *("weights .safetensors", "safetensors", "model.safetensors"),
        *(golden("timm-token", "hf-vit"), folder),
    )
    yield (
        *("weights .pth", "zip", "model.pth"),
        *(golden("timm-pth", "vp-cls"), calls.weights("model.pth")),
    )
    yield (
        *("weights .pth before PyTorch 1.6", "bytes", "model.pth"),
        *(golden("timm-legacy-pth"), calls.weights("model.pth")),
    )
    yield (
        *("weights .h5", "bytes", "model.weights.h5"),
        *(golden("kh-token", "kh-dinov2", "vk-h5"), folder),
    )
    yield (
        *("weights .h5 of Keras 2", "bytes", "model.h5"),
        *(golden("vk-keras2"), calls.weights("model.h5")),
    )
    yield (
        *("weights of this package, .weights.h5", "bytes", "a.weights.h5"),
        *([seeds.own_weights], calls.own_weights),
    )
    for name, file, case in (
        ("index of shards", "model.safetensors.index.json", "hf-sharded"),
        ("config.json of transformers", "config.json", "hf-vit"),
        ("preprocessor_config.json", "preprocessor_config.json", "hf-vit"),
        ("config.json of DINOv2", "config.json", "hf-dinov2"),
        ("config.json of timm", "config.json", "timm-folder"),
        ("open_clip_config.json", "open_clip_config.json", "open-clip"),
    ):
        yield name, "json", file, golden(case), folder
    yield "model .keras", "zip", MODEL, [seeds.keras_file], calls.whole_model
    yield "weights in a .keras", "zip", MODEL, [seeds.keras_file], calls.model_weights
    yield (
        "weights .keras of keras-hub",
        "zip",
        MODEL,
        golden("kh-siglip"),
        calls.weights(MODEL),
    )
    yield "kind of a .keras", "zip", MODEL, [seeds.keras_file], calls.trained_aware
    yield (
        *("state of a checkpoint", "json", "checkpoint/000001/state.json"),
        *([seeds.checkpoint], calls.resumed),
    )
    yield (
        *("weights of a checkpoint", "bytes", "checkpoint/000001/state.weights.h5"),
        *([seeds.checkpoint], calls.resumed),
    )
    yield "recipe", "json", "recipe.json", one("recipe.json", recipe), calls.recipe
    yield (
        *("labels.txt", "text", "labels.txt"),
        *(one("labels.txt", lambda: b"cat\ndog\neel\n"), calls.labels),
    )
    yield (
        *("preprocessing .json", "json", "preprocessing.json"),
        *(one("preprocessing.json", lambda: RULES), calls.preprocessing),
    )
    yield (
        "config.json of a text model",
        "json",
        "config.json",
        golden("hf-clip"),
        calls.text_tower,
    )
    yield "image", "bytes", "a", one("a", *pictures), calls.images("a")
    yield "table .csv", "text", TABLE, [table(CSV), table(SPLIT)], calls.data(TABLE)
    yield (
        *("table .jsonl", "json_lines", "table.jsonl"),
        *([table(JSONL, "table.jsonl")], calls.data("table.jsonl")),
    )
    yield (
        *("images and labels .npz", "zip", "a.npz"),
        *(one("a.npz", labelled, lambda: labelled(True)), calls.data("a.npz")),
    )
    yield (
        *("images and masks .npz", "zip", "a.npz"),
        *(one("a.npz", masked), calls.data("a.npz", "segment")),
    )
    yield (
        *("images .npy", "npy", "a.npy"),
        *(
            one("a.npy", lambda: seeds.array(seeds.pixels())),
            calls.calibration("a.npy"),
        ),
    )
    yield (
        "images of an .npz",
        "zip",
        "a.npz",
        one("a.npz", labelled),
        calls.calibration("a.npz"),
    )
    masks = calls.data(task="segment")
    yield "mask .png", "bytes", "masks/a.png", [pair], masks
    yield (
        *("mask .npy", "npy", "masks/a.npy"),
        *([lambda: _npy_mask()], masks),
    )
    for kind, file, content in (
        ("npy", "depth/a.npy", seeds.array(depth)),
        ("zip", "depth/a.npz", seeds.arrays(depth=depth)),
    ):
        files = [lambda c=content, f=file: seeds.depths(c, f[-4:])]
        yield f"depth {file[-4:]}", kind, file, files, calls.data(task="depth")
    yield (
        *("classes.json", "json", "classes.json"),
        *([lambda: pair(**{"classes.json": CLASSES})], masks),
    )
    for name, content in text_masks.items():
        files = [lambda n=name, c=content: pair(**{n: c})]
        yield pathlib.PurePath(name).name, "text", name, files, masks
    yield (
        "COCO .json",
        "json",
        "train.json",
        [seeds.coco],
        calls.data("train.json", "segment"),
    )
    both = [seeds.tflite, seeds.int8_tflite]
    yield "metadata of a .tflite", "flatbuffer", TFLITE, both, calls.metadata
    yield "operators of a .tflite", "flatbuffer", TFLITE, both, calls.operators
    yield ".tflite to be run", "flatbuffer", TFLITE, both, calls.run
    yield (
        ".tflite as a Keras model",
        "flatbuffer",
        TFLITE,
        [seeds.torch_tflite],
        calls.as_keras,
    )
    yield ".tflite for a page", "flatbuffer", TFLITE, [seeds.web_tflite], calls.web
    yield (
        ".tflite as a C array",
        "flatbuffer",
        TFLITE,
        [seeds.micro_tflite],
        calls.c_array,
    )
    yield (
        "report beside a .tflite",
        "json",
        TFLITE + ".json",
        [seeds.tflite],
        calls.report,
    )
    yield (
        "findings kept for a report",
        "json",
        "kept.json",
        one("kept.json", kept),
        calls.kept,
    )
    yield "SavedModel, its graph", "saved_model", PB, [tree], calls.served
    yield "SavedModel, its weights", "bytes", VARIABLES, [tree], calls.served
    yield "SavedModel, its index", "bytes", INDEX, [tree], calls.served
    yield "SavedModel, warm-up", "records", WARM, [tree], calls.checked


def _npy_mask():
    files = seeds.pairs()
    del files["masks/a.png"]
    values = (np.arange(256).reshape(seeds.SIZE) % 3).astype("uint8")
    return files | {"masks/a.npy": seeds.array(values)}


READERS = {row[0]: Reader(*row) for row in _rows()}
