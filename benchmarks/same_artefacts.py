"""Do two commits export the same artefacts?

    python benchmarks/same_artefacts.py v0.1.0

Checks the other commit out beside this one, exports the same small models with both
(every scheme for every target, mixed precision, quantisation-aware training,
SavedModels) and compares file by file: bytes; where these differ operators, shapes,
quantisation and outputs.
Exit status 1 if anything differs. Takes about 15 minutes on two cores.
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
SIZES = {
    "image_size": 32,
    "patch_size": 8,
    "num_layers": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "mlp_dim": 64,
    "classes": 10,
}
# What the graph can hold: each row is a model.
MODELS = {
    "token": {},
    "gap": {"pooling": "gap", "positions": "sincos2d", "mlp_activation": "gelu_tanh"},
    "map": {"pooling": "map", "layer_scale_init_value": 1e-1},
    "distilled": {"distillation_token": True, "representation_size": 16},
    "qk_norm": {"qk_norm": True, "num_register_tokens": 2, "pre_norm": True},
    "patch_norm": {"patch_norm": True, "fc_norm": True, "pooling": "gap"},
}


def build(name, changes):
    """A model away from its fresh weights, the same in every process."""
    import keras
    import numpy as np

    import vit_keras

    keras.utils.set_random_seed(0)
    config = vit_keras.ViTConfig(**{**SIZES, **changes})
    model = vit_keras.create_model(config, name=name)
    draws = np.random.default_rng(0)
    model.set_weights([w + draws.normal(0, 0.1, w.shape) for w in model.get_weights()])
    return model


def pixels():
    """(64, 32, 32, 3) uint8: digits, enlarged."""
    import numpy as np

    from vit_keras import data

    digits, _ = data.digits()
    return np.repeat(np.repeat(np.asarray(digits.images[:64]), 4, axis=1), 4, axis=2)


def exports():
    """(name of an artefact, function that writes it to a path)."""
    import keras
    import numpy as np

    import export

    images = pixels()
    model = build("token", MODELS["token"])

    def tflite(model, **options):
        return lambda path: export.to_tflite(
            model, path, calibration=images, enforce_parity=False, **options
        )

    for scheme in export.SCHEMES:
        yield f"{scheme}.tflite", tflite(model, scheme=scheme)
        for target, row in export.TARGETS.items():
            if scheme in row.schemes and target != "any":
                options = {"scheme": scheme, "target": target}
                yield f"{scheme}-{target}.tflite", tflite(model, **options)
    for name, changes in MODELS.items():
        for options in (
            {"scheme": "float32"},
            {"scheme": "int8"},
            {"scheme": "int8", "target": "cpu"},
            {"scheme": "dynamic_int4"},
        ):
            other = tflite(build(name, changes), **options)
            yield f"model-{name}-{'-'.join(options.values())}.tflite", other
    for number, options in enumerate(
        (
            {"min_sqnr": 24.0},
            {"min_sqnr": 30.0, "target": "cpu"},
            {"min_sqnr": 24.0, "target": "ethos_u85"},
            {"min_sqnr": 30.0, "target": "openvino"},
            {"min_sqnr": 99.0},
            {"accuracy_drop": 5.0, "evaluation": (images, np.arange(64) % 10)},
            {"calibration_method": "mse"},
            {"calibration_method": "percentile", "target": "micro"},
            {"heads_apart": True, "batch": 2, "input_dtype": "int8"},
            {"output_dtype": "float32", "labels": list("abcdefghij")},
            {"description": "A small ViT.", "licence": "Apache-2.0"},
        )
    ):
        yield f"option-{number}.tflite", tflite(model, scheme="int8", **options)
    bare = keras.Sequential([keras.Input((32, 32, 3)), model, keras.layers.Dense(3)])
    bare.set_weights([*model.get_weights(), np.ones((10, 3)) / 9, np.zeros(3)])
    yield "nested.tflite", tflite(bare, scheme="int8")
    stock = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(4, 8, 8, kernel_initializer="ones"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, kernel_initializer=keras.initializers.Constant(0.01)),
        ]
    )
    yield "stock.tflite", tflite(stock, scheme="int8")
    for name, options in {
        "8": {},
        "4": {"weight_bits": 4},
        "2-cpu": {"weight_bits": 2, "target": "cpu"},
        "ethos": {"target": "ethos_u85"},
    }.items():
        keras.utils.set_random_seed(0)
        aware = export.quantize_aware(model, images, **options)
        aware.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
        inputs = images.astype("float32") / 127.5 - 1
        aware.fit(inputs, np.arange(64) % 10, shuffle=False, verbose=0)
        target = {"target": options["target"]} if "target" in options else {}
        yield f"aware-{name}.tflite", tflite(aware, scheme="int8", **target)
    every = ("predict_bytes", "classify", "features", "attention")
    for name in ("token", "gap"):
        yield (
            f"{name}/1",
            lambda path, name=name: export.to_saved_model(
                build(name, MODELS[name]),
                path,
                labels=list("abcdefghij"),
                signatures=every,
            ),
        )


def write(folder):
    """Export everything into a folder; what is refused leaves its message."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    folder.mkdir(parents=True, exist_ok=True)
    for name, function in exports():
        try:
            function(folder / name)
        except Exception as error:  # the same refusal is the same behaviour
            text = f"{type(error).__name__}: {error}".replace(str(folder), "")
            path = folder / f"{name}.refused"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        print(f"{folder.name}: {name}", flush=True)


def inside(path):
    """Operators, tensors and outputs of a `.tflite` file."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.tools import flatbuffer_utils

    run = Interpreter(str(path))
    run.allocate_tensors()
    (entry,), (end,) = run.get_input_details(), run.get_output_details()
    outputs = []
    for image in pixels()[:8]:
        batch = np.resize(image, entry["shape"]).astype(entry["dtype"])
        run.set_tensor(entry["index"], batch)
        run.invoke()
        outputs.append(run.get_tensor(end["index"]).tolist())
    tensors = [
        (t["name"], t["shape"].tolist(), str(t["dtype"]), str(t["quantization"]))
        for t in run.get_tensor_details()
    ]
    operators = [op["op_name"] for op in run._get_ops_details()]
    model = flatbuffer_utils.read_model(str(path))
    stored = [b"" if b.data is None else bytes(b.data) for b in model.buffers]
    weights = sorted(hashlib.sha256(data).hexdigest() for data in stored[:-1])
    return {
        "operators": operators,
        "tensors": tensors,
        "weights": weights,  # all buffers but the last one, the metadata
        "outputs": outputs,
    }


def answers(path):
    """What every signature of a SavedModel answers."""
    import numpy as np
    import tensorflow as tf

    loaded, found = tf.saved_model.load(str(path)), {}
    images = pixels()[:4]
    encoded = [tf.io.encode_png(image).numpy() for image in images]
    for name, signature in sorted(loaded.signatures.items()):
        (key,) = signature.structured_input_signature[1]
        if name == "serving_default":
            value = tf.constant(images)
        elif name == "classify":
            value = []
            for item in encoded:
                example = tf.train.Example()
                feature = example.features.feature["image/encoded"]
                feature.bytes_list.value.append(item)
                value.append(example.SerializeToString())
            value = tf.constant(value)
        else:
            value = tf.constant(encoded)
        result = signature(**{key: value})
        found[name] = {k: np.asarray(v).tolist() for k, v in sorted(result.items())}
    return found


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def differences(old, new):
    """(name, "equal" or what differs) of every artefact."""
    names = {p.relative_to(f) for f in (old, new) for p in f.glob("*.tflite*")}
    names |= {p.relative_to(f) for f in (old, new) for p in f.glob("*/1*")}
    for name in sorted(n for n in names if n.suffix != ".json"):
        a, b = old / name, new / name
        if not (a.exists() and b.exists()):
            yield name, f"only one commit writes it: {a if a.exists() else b}"
        elif a.is_dir():
            same = answers(a) == answers(b)
            yield name, "equal answers" if same else "ANSWERS DIFFER"
        elif digest(a) == digest(b):
            yield name, "equal bytes"
        elif a.suffix == ".refused":
            kinds = [path.read_text().partition(":")[0] for path in (a, b)]
            yield name, "equal error" if len(set(kinds)) == 1 else f"ERRORS: {kinds}"
        else:
            parts = inside(a), inside(b)
            wrong = [key for key in parts[0] if parts[0][key] != parts[1][key]]
            words = "equal operators, tensors, weights and outputs"
            yield name, f"DIFFERS in {', '.join(wrong)}" if wrong else words


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("commit", nargs="?", help="to compare with")
    parser.add_argument("--write", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the artefacts")
    arguments = parser.parse_args()
    if arguments.write:
        return write(arguments.write)
    if not arguments.commit:
        parser.error("a commit is needed")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or pathlib.Path(temporary)
        tree = pathlib.Path(temporary, "tree")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run(
            [*git, "add", "--quiet", "--detach", str(tree), arguments.commit],
            check=True,
        )
        try:
            for name, root in (("old", tree), ("new", ROOT)):
                if not (folder / name / "done").exists():
                    subprocess.run(
                        [sys.executable, __file__, "--write", str(folder / name)],
                        env={**os.environ, "PYTHONPATH": str(root)},
                        cwd=root,
                        check=True,
                    )
                    (folder / name / "done").touch()
            rows = list(differences(folder / "old", folder / "new"))
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    for name, text in rows:
        print(f"{name}: {text}")
    wrong = [name for name, text in rows if not text.startswith("equal")]
    print(json.dumps({"artefacts": len(rows), "different": len(wrong)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
