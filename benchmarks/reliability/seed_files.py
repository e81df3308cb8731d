"""Small whole files of every kind that is read, as {path in a folder: content}.

Those of other libraries are the golden files of the tests.
"""

import functools
import io
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

GOLDEN = pathlib.Path(__file__).parents[2] / "tests" / "golden"
Files = dict[str, bytes]

NAMES = ("cat", "dog", "eel")
SIZE = (16, 16)  # of the small images and of the model's input


def write(files: Files, folder: pathlib.Path) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def golden(folder: str, *names: str) -> Files:
    """Return files of a golden folder; all but the expected outputs by default."""
    paths = [GOLDEN / folder / name for name in names]
    paths = paths or [
        p for p in (GOLDEN / folder).iterdir() if p.name != "expected.npz"
    ]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def folder_of(write: Callable[[pathlib.Path], object]) -> Files:
    """Return the files that a function writes into a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write(folder)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


@functools.cache
def model():
    """A classifier of three classes and two blocks."""
    import keras

    import vit_keras

    keras.utils.set_random_seed(0)
    config = vit_keras.ViTConfig(
        image_size=SIZE,
        patch_size=8,
        hidden_size=8,
        num_layers=1,
        num_heads=2,
        mlp_dim=16,
        classes=3,
        labels=NAMES,
    )
    return vit_keras.create_model(config)


def pixels(number: int = 6) -> np.ndarray:
    """Random images, uint8 (N, 16, 16, 3)."""
    draws = np.random.default_rng(0)
    return draws.integers(0, 256, (number, *SIZE, 3), "uint8")


def image(kind: str, size: tuple[int, int] = SIZE, mode: str = "RGB", **how) -> bytes:
    """Return an encoded image."""
    stream = io.BytesIO()
    array = np.random.default_rng(1).integers(0, 256, (*size, 3), "uint8")
    found = Image.fromarray(array)
    found = (
        Image.fromarray(array[..., 0].astype("uint16") * 257)
        if mode == "I;16"
        else found.convert(mode)
    )
    found.save(stream, kind, **how)
    return stream.getvalue()


def mask(kind: str = "PNG") -> bytes:
    """Return a mask of the numbers 0, 1 and 2."""
    stream = io.BytesIO()
    array = (np.arange(256).reshape(SIZE) % 3).astype("uint8")
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def arrays(compressed: bool = False, **values: np.ndarray) -> bytes:
    """Return an `.npz` file."""
    stream = io.BytesIO()
    write: Any = np.savez_compressed if compressed else np.savez
    write(stream, **values)
    return stream.getvalue()


def array(value: np.ndarray) -> bytes:
    """Return an `.npy` file."""
    stream = io.BytesIO()
    np.save(stream, value)
    return stream.getvalue()


def table(text: str) -> Files:
    """Return a table of files and labels, beside the images that it names."""
    return {"table.csv": text.encode(), "a.png": image("PNG"), "b.png": image("PNG")}


def pairs(**more: bytes) -> Files:
    """Return a folder of images and masks, with other files by their names."""
    found = {f"images/{name}.png": image("PNG") for name in "ab"}
    found |= {f"masks/{name}.png": mask() for name in "ab"}
    return found | more


def depths(content: bytes, suffix: str) -> Files:
    """Return a folder of images and depths."""
    found = {f"images/{name}.png": image("PNG") for name in "ab"}
    good = array(np.ones(SIZE, "float32"))
    return {**found, f"depth/a{suffix}": content, "depth/b.npy": good}


def coco() -> Files:
    """Return COCO's JSON with a polygon and both forms of run lengths."""
    from pycocotools import mask as coder

    drawn = np.asfortranarray(np.eye(SIZE[0], dtype="uint8"))
    counts: Any = coder.encode(drawn)["counts"]
    packed = counts.decode()
    rows = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 3,
            "segmentation": [[1, 1, 9, 1, 9, 9]],
        },
        {
            **{"id": 2, "image_id": 2, "category_id": 4},
            "segmentation": {"size": list(SIZE), "counts": [0, 100, 156]},
        },
        {
            **{"id": 3, "image_id": 2, "category_id": 4},
            "segmentation": {
                "size": list(SIZE),
                "counts": packed,
            },
        },
    ]
    images = [
        {"id": n, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}
        for n, name in ((1, "a"), (2, "b"))
    ]
    content = {
        "images": images,
        "annotations": rows,
        "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}],
    }
    text = json.dumps(content).encode()
    return {"train.json": text, "a.png": image("PNG"), "b.png": image("PNG")}


@functools.cache
def keras_file() -> Files:
    """Return a model of this package, saved whole, with its class names."""
    files = folder_of(lambda folder: model().save(folder / "model.keras"))
    return {**files, "labels.txt": "\n".join(NAMES).encode() + b"\n"}


@functools.cache
def own_weights() -> Files:
    """Return the weights of a model of this package, as Keras saves them."""
    return folder_of(lambda folder: model().save_weights(folder / "a.weights.h5"))


@functools.cache
def checkpoint() -> Files:
    """Return a checkpoint of a run after its first interval."""
    from vit_keras.training.checkpoint import STATE, WEIGHTS
    from vit_keras.training.recipe import Recipe

    state = {"recipe": Recipe().to_dict(), "interval": 1, "random": [], "history": []}
    state["history"] = [{"interval": 0, "step": 1, "loss": 0.5}]
    inside = "checkpoint/000001"
    (weights,) = own_weights().values()
    return {
        f"{inside}/{STATE}": json.dumps(state).encode(),
        f"{inside}/{WEIGHTS}": weights,
    }


@functools.cache
def tflite() -> Files:
    """Return a float file with metadata, labels and the report beside it."""
    import export

    def write(folder):
        export.to_tflite(model(), folder / "m.tflite", licence="none")

    return folder_of(write)


@functools.cache
def web_tflite() -> Files:
    """Return a file for a page."""
    import export

    def write(folder):
        export.to_tflite(model(), folder / "m.tflite", target="web")

    return folder_of(write)


@functools.cache
def micro_tflite() -> Files:
    """Return an int8 file for microcontrollers."""
    import export

    options = {"scheme": "int8", "target": "micro", "calibration": pixels()}
    return folder_of(lambda f: export.to_tflite(model(), f / "m.tflite", **options))


def torch_tflite() -> Files:
    """Return a float file of another maker."""
    return {"m.tflite": golden("litert-torch", "timm-gap.tflite")["timm-gap.tflite"]}


@functools.cache
def int8_tflite() -> Files:
    """Return an int8 file."""
    import export

    def write(folder):
        images = pixels()
        export.to_tflite(
            model(), folder / "m.tflite", scheme="int8", calibration=images
        )

    return folder_of(write)


@functools.cache
def saved_model() -> Files:
    """Return a SavedModel with all signatures and a warm-up file."""
    import export

    def write(folder):
        export.to_saved_model(model(), folder / "1", warmup=(1,))

    return folder_of(write)
