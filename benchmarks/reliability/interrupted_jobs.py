"""Long work on tiny models: its commands, artefacts, and what makes two the same."""

import dataclasses
import hashlib
import io
import os
import pathlib
import re
import zipfile
from typing import Any

SIZES: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "num_layers": 2,
    "hidden_size": 32,
}
SIZES |= {"num_heads": 2, "mlp_dim": 64, "classes": 10, "mlp_activation": "gelu_tanh"}
CLEAN, GOES_ON = "starts clean", "goes on"
CONFIG, FINGERPRINT = "config.json", "fingerprint.pb"
VALUE = ".ATTRIBUTES/VARIABLE_VALUE"  # in TensorFlow's name of a variable's value
REMOTE = "remote.npz"  # what is downloaded


@dataclasses.dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        program: "vit-export", "vit-keras", or "fetch" for the function.
        arguments: `{model}` is the model that is used, `{inputs}` the folder of inputs,
            `{out}` that of results.
        artefacts: files and folders of `{out}` that must be whole.
        again: what the same command does after it was stopped.
        older: whether artefacts of another model are there under the same names.
        together: whether artefacts of two runs must never stand side by side.
        notes: other names in `{out}` that may stand there.
    """

    program: str
    arguments: tuple[str, ...]
    artefacts: tuple[str, ...]
    again: str = CLEAN
    older: bool = True
    together: bool = False
    notes: tuple[str, ...] = ()

    def argv(self, inputs, out, model="newer"):
        """Return the command's arguments."""
        known = {"inputs": inputs, "out": out, "model": model}
        return [text.format(**known) for text in self.arguments]


MODEL = "{inputs}/{model}.keras"
TRAIN = ("train", "--data", "{inputs}/digits.npz", "--out", "{out}/run", "--recipe")
TRAIN += ("digits", "--epochs", "4", "--batch-size", "32")
TRAIN += ("--set", "model.num_layers=2", "--set", "optimizer=adamw")
RUN = ("run/model.keras", "run/best.keras", "run/labels.txt", "run/recipe.json")
JOBS = {
    "tflite": Job(
        "vit-export",
        ("tflite", MODEL, "{out}/m.tflite", "--scheme", "int8")
        + ("--calibration", "{inputs}/images.npy"),
        ("m.tflite",),
        notes=("m.tflite.json",),
    ),
    "saved-model": Job(
        "vit-export",
        ("saved-model", MODEL, "{out}/2"),
        ("2",),
        older=False,  # a new version is a new directory
        notes=("2.json",),
    ),
    "qat": Job(
        "vit-export",
        ("qat", "{inputs}/{model}_run/model.keras", "--data", "{inputs}/digits.npz")
        + ("--out", "{out}/qat", "--target", "cpu"),
        ("qat/model.keras", "qat/labels.txt"),
        older=False,  # it refuses a folder with a model
        notes=("qat",),
    ),
    "report": Job(
        "vit-export",
        ("report", MODEL, "--data", "{inputs}/digits.npz", "--out", "{out}/report")
        + ("--schemes", "float32,int8", "--limit", "32", "--runs", "2"),
        ("report/float32_any.tflite", "report/int8_any.tflite"),
        again=GOES_ON,
        notes=("report",),
    ),
    "train": Job(
        "vit-keras", (*TRAIN, "--seed", "1"), RUN, GOES_ON, older=False, notes=("run",)
    ),
    "train --overwrite": Job(
        "vit-keras",
        (*TRAIN, "--overwrite", "--weights", "{inputs}/{model}_run"),
        RUN,
        together=True,
        notes=("run",),
    ),
    "download": Job(
        "fetch", ("{out}",), (REMOTE,), GOES_ON, older=False, notes=(".lock",)
    ),
    "web": Job(
        "vit-export", ("web", "{inputs}/{model}.tflite", "--out", "{out}/web"), ("web",)
    ),
    "compile": Job(
        "vit-export",
        ("compile", "{inputs}/{model}.ethos.tflite", "{out}/c.tflite")
        + ("--target", "ethos_u55"),
        ("c.tflite",),
        notes=("c.tflite.json",),
    ),
    "c-array": Job(
        "vit-export",
        ("c-array", "{inputs}/{model}.micro.tflite", "{out}/m.h"),
        ("m.h",),
    ),
    "convert": Job(
        "vit-keras",
        ("weights", "convert", "{inputs}/{model}.npz", "{out}/w.keras"),
        ("w.keras",),
    ),
    "convert --layout": Job(
        "vit-keras",
        ("weights", "convert", "{inputs}/{model}.npz", "{out}/hf")
        + ("--layout", "huggingface"),
        ("hf/model.safetensors", "hf/config.json"),
        together=True,
    ),
}


def digest(path: pathlib.Path) -> str | None:
    """Return a hash of what a file or folder means, None if there is none.

    Of a .keras file these are the layers and weights: its date, the seeds of unused
    dropout and the addresses of objects differ. Of a SavedModel: names, variables, and
    the size of its graph; their order and its fingerprint are others each time.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        files = [p for p in files if p.suffix != ".index" and p.name != FINGERPRINT]
        parts = [f"{p.relative_to(path)} {_part(p)}" for p in files]
        return _hash("\n".join(parts).encode())
    if not path.is_file():
        return None
    if path.suffix == ".keras":
        try:
            return _hash(_inside(path))
        except (zipfile.BadZipFile, EOFError, OSError, KeyError) as error:
            return f"broken: {error}"
    return _hash(path.read_bytes())


def _part(path):
    """Hash of a file in a folder; TensorFlow numbers functions anew in each process."""
    if path.name == "saved_model.pb":
        return path.stat().st_size
    return _values(path) if ".data-" in path.name else digest(path)


def _values(path):
    """Hash of the variables of a SavedModel, in no order."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(os.fspath(path).rpartition(".data-")[0])
        names = [n for n in reader.get_variable_to_shape_map() if VALUE in n]
        return _hash(b"".join(sorted(reader.get_tensor(n).tobytes() for n in names)))
    except (tf.errors.OpError, ValueError) as error:
        return f"broken: {error}"


def _inside(path):
    """Bytes of what a .keras file has inside."""
    import h5py

    with zipfile.ZipFile(path) as archive:
        parts = [re.sub(rb'"(seed|shared_object_id)": \d+', b"", archive.read(CONFIG))]
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:

            def visit(name, item):
                if isinstance(item, h5py.Dataset) and "seed_generator" not in name:
                    parts.append(name.encode() + item[()].tobytes())

            file.visititems(visit)
    return b"".join(parts)


def _hash(content):
    return hashlib.sha256(content).hexdigest()


def make_inputs(inputs: pathlib.Path) -> None:
    """Write two tiny models, "newer" and "older", and tiny data."""
    import keras
    import numpy as np

    import export
    from vit_keras import ViTConfig, create_model
    from vit_keras.data.dataset import digits
    from vit_keras.training import RECIPES, train
    from vit_keras.weights.writer import save_checkpoint

    inputs.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    np.save(inputs / "images.npy", rng.integers(0, 256, (8, 32, 32, 3), "uint8"))
    data = digits()[0]
    images, labels = np.asarray(data.images[:160]), data.labels[:160]
    np.savez(inputs / "digits.npz", images=images, labels=labels)
    np.savez(inputs / REMOTE, values=rng.normal(size=250_000))
    for seed, name in enumerate(("newer", "older")):
        keras.utils.set_random_seed(seed)
        model = create_model(ViTConfig(**SIZES))
        weights = [w + rng.normal(0, 0.1, w.shape) for w in model.get_weights()]
        model.set_weights(weights)
        model.save(inputs / f"{name}.keras")
        save_checkpoint(model, inputs / f"{name}.npz", "augreg")
        calibration = inputs / "images.npy"
        for file, scheme, target in (
            (f"{name}.tflite", "float32", "web"),
            (f"{name}.ethos.tflite", "int8", "ethos_u55"),
            (f"{name}.micro.tflite", "int8", "micro"),
        ):
            images = calibration if scheme == "int8" else None
            options = {"scheme": scheme, "target": target, "calibration": images}
            export.to_tflite(model, inputs / file, **options)
        recipe = RECIPES["digits"].replace(epochs=1, seed=seed)
        sizes = {**recipe.model, "num_layers": 2}
        recipe = recipe.replace(model=sizes, optimizer="adamw")
        train(str(inputs / "digits.npz"), recipe, out=inputs / f"{name}_run")
