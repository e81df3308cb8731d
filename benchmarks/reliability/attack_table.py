"""The attacks on each reader: a table, and what a reader makes of each."""

import pickle
import struct
from collections.abc import Iterator

from . import attacks as at
from . import h5_attacks as h5
from . import model_attacks as models
from . import saved_model_attacks as saved
from . import seed_files as seeds
from .attacks import BRACKETS, OBJECTS, Attack
from .data_attack_table import data_attacks
from .readers import (
    READERS,
)

CODE = "__import__('os').system('touch {}/made')"


def _weights() -> Iterator[Attack]:
    npz, tensors, pth = "weights .npz", "weights .safetensors", "weights .pth"

    def npz_bomb(folder, outside):
        at.bomb(folder / "model.npz", {}, "a.npy", 2000)

    def npz_honest(folder, outside):
        at.bomb(
            folder / "model.npz",
            {"a.npy": at.npy_header("(375000000,)")},
            "a.npy",
            1431,
        )

    yield Attack("2 GB of zeros in a zip archive", npz, npz_bomb)
    yield Attack("1.5 GB of zeros as an array", npz, npz_honest)
    array = at.npz("model.npz", "a.npy", lambda o: at.npy_header(f"({1 << 60},)"))
    yield Attack("an array of 2^60 numbers", npz, array)
    array = at.npz("model.npz", "a.npy", lambda o: at.npy_header(CODE.format(o)))
    yield Attack("code in the header of an array", npz, array)
    array = at.npz("model.npz", "a.npy", lambda o: at.npy_header("(" * 9_000))
    yield Attack("a header of 9,000 brackets", npz, array)
    array = at.npz(
        *("model.npz", "a.npy"),
        lambda o: at.npy_header("(1,)", "'|O'") + pickle.dumps(at.Runs(o)),
    )
    yield Attack("a pickle that runs a command", npz, array)
    header = struct.pack("<Q", 1 << 60) + b"{}"
    yield Attack(
        "a header of 2^60 bytes", tensors, at.file("model.safetensors", header)
    )
    text = (
        b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104'
    )
    text += b"]}}"
    for name, content in (
        ("an array of 4 TB", text),
        ("a header of 100,000 brackets", BRACKETS),
        ("a header of 100,000 objects", OBJECTS),
    ):
        content = struct.pack("<Q", len(content)) + content
        yield Attack(name, tensors, at.file("model.safetensors", content))
    for protocol in (0, 2, 4):

        def evil(outside, protocol=protocol):
            data = pickle.dumps({"a": at.Runs(outside)}, protocol)
            return at.zipped({"m/data.pkl": data, "m/version": b"3\n"})

        yield Attack(
            f"a pickle of protocol {protocol} that runs a command",
            *(pth, at.file("model.pth", evil)),
        )

    def alone(outside):
        return pickle.dumps(at.Runs(outside))

    old = "weights .pth before PyTorch 1.6"
    yield Attack("a bare pickle that runs a command", old, at.file("model.pth", alone))

    def pickle_bomb(folder, outside):
        at.bomb(folder / "model.pth", {"m/version": b"3\n"}, "m/data.pkl", 2000)

    yield Attack("2 GB of zeros as a pickle", pth, pickle_bomb)
    for change in h5.H5:
        name = models.first_line(change)
        for reader, files, file in (
            ("weights .h5", lambda: seeds.golden("kh-token"), "model.weights.h5"),
            ("weights of this package, .weights.h5", seeds.own_weights, "a.weights.h5"),
            (
                *("weights of a checkpoint", seeds.checkpoint),
                "checkpoint/000001/state.weights.h5",
            ),
        ):
            make = h5.changed_h5(files, file, change)
            yield Attack(name, reader, make, change is not h5.cycle)
    index = b'{"weight_map": {"a": "../outside/secret.npz"}}'
    file = "model.safetensors.index.json"
    yield Attack("a shard outside", "index of shards", at.file(file, index))
    index = b'{"weight_map": {"a": "/etc/passwd"}}'
    yield Attack("a shard of the system", "index of shards", at.file(file, index))
    yield Attack("100,000 brackets", "index of shards", at.file(file, BRACKETS))
    yield Attack("a file of 10 GB", "index of shards", at.sparse(file))
    for file, case in (
        ("config.json", "hf-vit"),
        ("preprocessor_config.json", "hf-vit"),
    ):
        reader = "config.json of transformers" if file == "config.json" else file

        def whole(case=case):
            return seeds.golden(case)

        for name, content in (
            ("100,000 brackets", BRACKETS),
            ("100,000 objects", OBJECTS),
        ):
            yield Attack(name, reader, at.beside(whole, file, content))
    content = seeds.golden("hf-vit")["config.json"]
    content = content.replace(b'"hidden_size": ', b'"hidden_size": 1000000000')
    make = at.beside(lambda: seeds.golden("hf-vit"), "config.json", content)
    yield Attack("a model of 10^18 weights", "config.json of transformers", make)


def _keras() -> Iterator[Attack]:
    for reader in ("model .keras", "weights in a .keras"):
        yield Attack("a Lambda layer", reader, models.with_layer(models.code_of))
        for name, layer in models.KERAS_CALLS.items():
            yield Attack(f"a layer that is {name}", reader, models.with_layer(layer))
        yield Attack(
            "names out of the folder", reader, models.keras_members(models.slip), False
        )
        for change in h5.H5:
            make = models.weights_of(change)
            yield Attack(
                models.first_line(change), reader, make, change is not h5.cycle
            )
        for name in ("config.json", "model.weights.h5", "more"):
            make = models.keras_bomb(name)
            yield Attack(f"2 GB of zeros in {name}", reader, make, name != "more")

        def nested(members, outside):
            members["config.json"] = OBJECTS

        yield Attack("100,000 objects", reader, models.keras_members(nested))
    make = models.keras_bomb("config.json")
    yield Attack("2 GB of zeros in config.json", "kind of a .keras", make, False)


def _settings() -> Iterator[Attack]:
    state = "checkpoint/000001/state.json"
    for reader, file, refused in (
        ("recipe", "recipe.json", True),
        ("preprocessing .json", "preprocessing.json", True),
        ("config.json of a text model", "config.json", True),
        ("report beside a .tflite", "m.tflite.json", True),
        ("findings kept for a report", "kept.json", False),
        ("state of a checkpoint", state, False),
        ("classes.json", "classes.json", True),
        ("COCO .json", "train.json", True),
        ("table .jsonl", "table.jsonl", True),
    ):
        files = READERS[reader].files[0]
        for name, content in (
            ("100,000 brackets", BRACKETS),
            ("100,000 objects", OBJECTS),
        ):
            yield Attack(name, reader, at.beside(files, file, content), refused)
        yield Attack("a file of 10 GB", reader, _with(files, at.sparse(file)), refused)
        numbers = b"[" + b"9" * 10_000 + b"]"
        make = at.beside(files, file, numbers)
        yield Attack("a number of 10,000 digits", reader, make, refused)
    for reader, file in (
        ("labels.txt", "labels.txt"),
        ("table .csv", "table.csv"),
        ("classes.txt", "classes.txt"),
        ("class_dict.csv", "class_dict.csv"),
        ("labelmap.txt", "labelmap.txt"),
        ("train.txt", "ImageSets/Segmentation/train.txt"),
    ):
        files = READERS[reader].files[0]
        yield Attack("a line of 10 GB", reader, _with(files, at.sparse(file)))
        content = b"\xff\xfe" * 1000
        yield Attack("no text", reader, at.beside(files, file, content))


def _with(files, more):
    def make(folder, outside):
        at.write(files(), folder)
        more(folder, outside)

    return make


def _artefacts() -> Iterator[Attack]:
    run, meta = ".tflite to be run", "metadata of a .tflite"
    for change in models.TFLITE:
        for reader in (run, ".tflite as a Keras model", ".tflite for a page"):
            yield Attack(
                models.first_line(change), reader, models.changed_tflite(change)
            )
    for make in (models.metadata_tree, models.metadata_bomb, models.model_tree):
        yield Attack(models.first_line(make), meta, make, make is not models.model_tree)
        yield Attack(models.first_line(make), ".tflite for a page", make)
    graph = "SavedModel, its graph"
    for build in saved.SAVED:
        yield Attack(models.first_line(build), graph, saved.served_graph(build))
        yield Attack(
            models.first_line(build), "SavedModel, warm-up", saved.served_graph(build)
        )
    yield Attack(models.first_line(saved.with_init), graph, saved.with_init)


ATTACKS = (*_weights(), *_keras(), *_settings(), *data_attacks(), *_artefacts())
