"""Training images/s of our ViT beside others, in one call, interleaved.

    python benchmarks/train_throughput.py --backend jax --models s16 b16 --out x.csv

Contestants, each in a process of its own, again and again in turn: `ours`; `stock`, the
same architecture of stock Keras layers (`MultiHeadAttention`, `LayerNormalization`);
`timm` with `torch.compile`, where timm is installed. Before anything is timed each must
learn: a few steps on one batch have to lower its loss. Synthetic images, AdamW, in
bfloat16 on a GPU and float32 on a CPU. A row of the CSV is the median of the rounds;
on a CPU the seconds are those of the process on all cores, which a busy machine leaves
alone. `ours` is compiled as `vit_keras.training` does it, the others by their defaults.
"""

import argparse
import csv
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

SIZES = {  # width, depth, heads, MLP width, patch
    "ti16": (192, 12, 3, 768, 16),
    "s16": (384, 12, 6, 1536, 16),
    "b16": (768, 12, 12, 3072, 16),
    "l16": (1024, 24, 16, 4096, 16),
    "toy": (64, 2, 4, 128, 16),
}
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bfloat16 FLOP/s
FIELDS = ("contestant", "model", "image_size", "batch_size", "images_per_second")
FIELDS += ("ratio_to_ours", "mfu", "peak_memory_mb", "backend", "precision")
FIELDS += ("device", "versions")


def flops_of(name, image_size):
    """Of one training image: thrice the forward pass, two for a multiply-add."""
    width, depth, _, mlp, patch = SIZES[name]
    tokens = (image_size // patch) ** 2 + 1
    block = tokens * (4 * width * width + 2 * width * mlp) + 2 * tokens**2 * width
    return 6 * (depth * block + tokens * width * patch * patch * 3)


def build_ours(name, image_size):
    import vit_keras

    width, depth, heads, mlp, patch = SIZES[name]
    config = vit_keras.ViTConfig(
        image_size=image_size,
        patch_size=patch,
        hidden_size=width,
        num_layers=depth,
        num_heads=heads,
        mlp_dim=mlp,
    )
    return vit_keras.create_model(config)


def build_stock(name, image_size):
    """The textbook ViT of Keras' own layers, without a class token: mean pooling."""
    import keras
    from keras import layers

    width, depth, heads, mlp, patch = SIZES[name]
    images = keras.Input((image_size, image_size, 3))
    x = layers.Conv2D(width, patch, patch)(images)
    x = layers.Reshape((-1, width))(x)
    places = keras.ops.arange(x.shape[1])[None]
    x = x + layers.Embedding(x.shape[1], width)(places)
    for _ in range(depth):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.MultiHeadAttention(heads, width // heads)(y, y)
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(mlp, activation="gelu")(y)
        x = x + layers.Dense(width)(y)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))
    return keras.Model(images, layers.Dense(1000, dtype="float32")(x))


def measure_keras(build, options):
    """Images/s of `fit`, and the loss of the first steps."""
    import keras
    import numpy as np

    from vit_keras.training.devices import jit_compile, on_accelerator

    clock = time.perf_counter if on_accelerator() else time.process_time
    gpu = on_accelerator()
    keras.config.set_dtype_policy("mixed_bfloat16" if gpu else "float32")
    keras.utils.set_random_seed(0)
    model = build(options.model, options.image_size)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    jit = jit_compile() if build is build_ours else "auto"
    model.compile(keras.optimizers.AdamW(1e-4), loss, jit_compile=jit)
    x, y = batch_of(options)
    losses = [float(model.train_on_batch(x, y)) for _ in range(4)]
    many = np.concatenate([x] * options.steps), np.concatenate([y] * options.steps)
    fit = {"batch_size": options.batch_size, "verbose": 0, "shuffle": False}
    model.fit(*many, **fit)
    start = clock()
    model.fit(*many, **fit)
    seconds = clock() - start
    return losses, seconds, keras.config.dtype_policy().name, versions("keras")


def measure_timm(options):
    """The same of timm, compiled."""
    import timm
    import torch

    width, depth, heads, mlp, patch = SIZES[options.model]
    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=options.image_size,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp / width,
    ).to(device)
    step_model = torch.compile(model) if gpu else model
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=gpu)
    x, y = batch_of(options)
    x = torch.from_numpy(x.transpose(0, 3, 1, 2)).to(device)
    y = torch.from_numpy(y).long().to(device)

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=gpu):
            loss = torch.nn.functional.cross_entropy(step_model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    losses = [float(step()) for _ in range(4)]
    clock = time.perf_counter if gpu else time.process_time
    start = clock()
    for _ in range(options.steps):
        last = step()
    float(last)  # waits for the device
    seconds = clock() - start
    return losses, seconds, "bfloat16" if gpu else "float32", versions("timm", "torch")


def batch_of(options):
    import numpy as np

    draws = np.random.default_rng(0)
    shape = (options.batch_size, options.image_size, options.image_size, 3)
    x = draws.standard_normal(shape).astype("float32")
    return x, draws.integers(0, 1000, options.batch_size)


def versions(*packages):
    import importlib.metadata

    return " ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)


def child(options):
    """One measurement, as JSON on the last line."""
    if options.step == "timm":
        result = measure_timm(options)
    else:
        build = build_ours if options.step == "ours" else build_stock
        result = measure_keras(build, options)
    losses, seconds, precision, packages = result
    if not losses[-1] < losses[0]:
        raise SystemExit(f"{options.step} does not learn: losses {losses}")
    import resource

    device, peak = platform.machine(), None
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        cuda = sys.modules["torch"].cuda
        device, peak = cuda.get_device_name(), cuda.max_memory_allocated()
    elif "jax" in sys.modules:
        first = sys.modules["jax"].devices()[0]
        device = first.device_kind
        peak = (first.memory_stats() or {}).get("peak_bytes_in_use")
    peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    speed = options.batch_size * options.steps / seconds
    print(json.dumps([speed, precision, packages, device, peak / 1e6]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="jax", help="of Keras")
    parser.add_argument("--models", nargs="+", default=["s16", "b16"], choices=SIZES)
    parser.add_argument("--contestants", nargs="+", default=["ours", "stock", "timm"])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        return child(options)
    contestants = list(options.contestants)
    needed = ("timm", "torch", "torchvision")
    if "timm" in contestants and not all(map(importlib.util.find_spec, needed)):
        contestants.remove("timm")
    rows = []
    for model in options.models:
        results = {name: [] for name in contestants}
        for _ in range(options.rounds):
            for name in contestants:  # in turn, so that a busy machine is so for all
                results[name].append(run_child(options, name, model))
        speeds = {n: statistics.median(r[0] for r in rs) for n, rs in results.items()}
        for name, (_, precision, packages, device, memory) in (
            (n, rs[-1]) for n, rs in results.items()
        ):
            flops = speeds[name] * flops_of(model, options.image_size)
            peak = next((p for k, p in PEAKS.items() if k in device), None)
            ours = speeds.get("ours", speeds[name])
            values = (name, model, options.image_size, options.batch_size)
            values += (f"{speeds[name]:.1f}", f"{speeds[name] / ours:.3f}")
            values += (f"{flops / peak:.3f}" if peak else "", f"{memory:.0f}")
            backend = "torch" if name == "timm" else options.backend
            values += (backend, precision, device, packages)
            rows.append(dict(zip(FIELDS, values, strict=True)))
            print(rows[-1])
    if options.out is not None:
        with options.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
    return None


def run_child(options, name, model):
    """Measure one contestant in a process of its own."""
    sizes = ("image_size", "batch_size", "steps")
    numbers = [f"--{n.replace('_', '-')}={getattr(options, n)}" for n in sizes]
    command = [sys.executable, __file__, "--step", name, "--model", model, *numbers]
    environment = {**os.environ, "KERAS_BACKEND": options.backend}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} {model} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
