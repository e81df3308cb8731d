"""Who trains in `train_throughput.py`, and the process that measures one of them."""

import argparse
import dataclasses
import importlib.metadata
import itertools
import json
import os
import pathlib
import resource
import sys
import time

import numpy as np
from machine import machine

SIZES = {  # width, depth, heads, MLP width, patch
    "ti16": (192, 12, 3, 768, 16),
    "s16": (384, 12, 6, 1536, 16),
    "b16": (768, 12, 12, 3072, 16),
    "l16": (1024, 24, 16, 4096, 16),
    "toy": (64, 2, 4, 128, 16),
}
CHECKED = 4  # first steps whose losses are compared


@dataclasses.dataclass(frozen=True)
class Contestant:
    """What trains, and how it differs from `ours`."""

    what: str
    library: str = "ours"  # or "stock", "timm"
    model: dict = dataclasses.field(default_factory=dict)  # of `ViTConfig`
    fused: bool | None = None  # attention of the backend
    execution: int = 1  # steps per execution of `fit`
    scan: bool = False  # a loop in XLA in place of `fit`
    host: bool = False  # images come from the host's memory each step
    eager: bool = False  # timm without `torch.compile`
    flags: str = ""  # of XLA

    @property
    def comparable(self):
        """Whether its losses are those of timm."""
        return self.library != "stock" and not self.model


CONTESTANTS = {
    "ours": Contestant("as `vit_keras.training` does it"),
    "stock": Contestant("a ViT of Keras' own layers", "stock"),
    "timm": Contestant("timm, torch.compile", "timm"),
    "timm_eager": Contestant("timm, not compiled", "timm", eager=True),
    "fused": Contestant("the backend's fused attention: cuDNN on a GPU", fused=True),
    "tanh": Contestant("GELU by tanh", model={"mlp_activation": "gelu_tanh"}),
    "gap": Contestant("196 tokens", model={"pooling": "gap", "class_token": False}),
    "scan": Contestant("no dispatch: all steps in one call of XLA", scan=True),
    "execution": Contestant("eight steps per call of `fit`'s function", execution=8),
    "host": Contestant("images from the host", host=True),
    "cublas": Contestant("no Triton", flags="--xla_gpu_enable_triton_gemm=false"),
    "graphs": Contestant(
        "all kernels in CUDA graphs",
        flags="--xla_gpu_graph_min_graph_size=1 --xla_gpu_enable_command_buffer="
        "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN",
    ),
}


def build_ours(options, contestant):
    import vit_keras

    width, depth, heads, mlp, patch = SIZES[options.model]
    sizes = {"hidden_size": width, "num_layers": depth, "num_heads": heads}
    sizes |= {"image_size": options.image_size, "patch_size": patch, "mlp_dim": mlp}
    model = vit_keras.create_model(vit_keras.ViTConfig(**sizes, **contestant.model))
    left = pathlib.Path(options.weights or "")  # by timm, if it runs, too
    if contestant.comparable and left.is_file():
        vit_keras.load_weights(model, left)
    for layer in model.layers:
        if contestant.fused is not None and hasattr(layer, "attention"):
            layer.attention.fused = contestant.fused
    return model


def build_stock(options, contestant):
    """The textbook ViT of Keras' own layers, without a class token: mean pooling."""
    import keras
    from keras import layers

    width, depth, heads, mlp, patch = SIZES[options.model]
    images = keras.Input((options.image_size, options.image_size, 3))
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


def measure_keras(options, contestant):
    """Losses of the first steps, seconds to compile, seconds of each window."""
    import keras

    from vit_keras.training.devices import jit_compile, on_accelerator

    gpu, ours = on_accelerator(), contestant.library == "ours"
    clock = time.perf_counter if gpu else time.process_time
    keras.config.set_dtype_policy("mixed_bfloat16" if gpu else "float32")
    keras.utils.set_random_seed(0)
    model = (build_ours if ours else build_stock)(options, contestant)
    model.compile(
        # Epsilon is another thing in Keras than in PyTorch; so small it is none.
        keras.optimizers.AdamW(1e-4, weight_decay=0.05, epsilon=1e-12),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile() if ours else "auto",
        steps_per_execution=contestant.execution,
    )
    x, y = batch_of(options)
    if keras.backend.backend() == "jax" and not contestant.host:
        x, y = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
    started, losses = time.perf_counter(), []
    for step in range(CHECKED):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(x, y)))
        if step == 0:
            compiled = time.perf_counter() - started
    if options.trace:
        import jax  # of one window more

        with jax.profiler.trace(options.trace, create_perfetto_trace=True):
            for _ in range(options.steps):
                model.train_on_batch(x, y)
    if contestant.scan:
        seconds = scan(model, x, y, options, clock)
    else:
        watch = windows(clock)
        steps = -(-options.steps // contestant.execution) * contestant.execution
        model.fit(
            (batch for batch in itertools.repeat((x, y))),
            steps_per_epoch=steps,
            epochs=options.windows + 1,
            callbacks=[watch],
            verbose=0,
        )
        seconds = [value * options.steps / steps for value in watch.seconds[1:]]
    return losses, compiled, seconds, keras.config.dtype_policy().name


def windows(clock):
    """A callback with the seconds of each epoch."""
    import keras

    class Windows(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seconds = []

        def on_epoch_begin(self, epoch, logs=None):
            self.started = clock()

        def on_epoch_end(self, epoch, logs=None):  # the logs are numbers: all is done
            self.seconds.append(clock() - self.started)

    return Windows()


def scan(model, x, y, options, clock):
    """The step that `fit` runs, in a loop inside XLA."""
    import jax

    def many(state, batch):
        def step(state, _):
            logs, state = model.train_step(state, batch)
            return state, logs["loss"]

        return jax.lax.scan(step, state, length=options.steps)

    many = jax.jit(many, donate_argnums=0)
    kinds = ("trainable", "non_trainable", "optimizer", "metrics")
    state = model._get_jax_state(**{f"{kind}_variables": True for kind in kinds})
    seconds = []
    for _ in range(options.windows + 1):
        started = clock()
        state, losses = many(state, (x, y))
        losses.block_until_ready()
        seconds.append(clock() - started)
    return seconds[1:]


def measure_timm(options, contestant):
    """The same of timm; leaves its first weights where `options.weights` says."""
    import torch

    from tests.peers import without_torchvision

    without_torchvision()
    import safetensors.torch
    import timm

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
    )
    if not pathlib.Path(options.weights).exists():
        safetensors.torch.save_file(model.state_dict(), options.weights)
    model.to(device)
    step_model = model if contestant.eager else torch.compile(model)
    settings = {"lr": 1e-4, "weight_decay": 0.05, "eps": 1e-12, "fused": gpu}
    optimizer = torch.optim.AdamW(model.parameters(), **settings)
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

    started = time.perf_counter()
    losses = [float(step())]
    compiled = time.perf_counter() - started
    losses += [float(step()) for _ in range(CHECKED - 1)]
    clock, seconds = time.perf_counter if gpu else time.process_time, []
    for _ in range(options.windows + 1):
        started = clock()
        for _ in range(options.steps):
            last = step()
        float(last)  # waits for the device
        seconds.append(clock() - started)
    return losses, compiled, seconds[1:], "bfloat16" if gpu else "float32"


def batch_of(options):
    draws = np.random.default_rng(0)
    shape = (options.batch_size, options.image_size, options.image_size, 3)
    x = draws.standard_normal(shape).astype("float32")
    return x, draws.integers(0, 1000, options.batch_size)


def device_and_peak():
    """Name of the device, and the most bytes that were in use on it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        cuda = sys.modules["torch"].cuda
        return cuda.get_device_name(), cuda.max_memory_allocated()
    if "jax" in sys.modules:
        first = sys.modules["jax"].devices()[0]
        if first.platform != "cpu":
            return first.device_kind, first.memory_stats()["peak_bytes_in_use"]
    return f"cpu {machine()}", peak


def main():
    """One measurement, as JSON on the last line."""
    parser = argparse.ArgumentParser()
    for name in ("contestant", "model", "weights", "trace"):
        parser.add_argument(f"--{name}")
    for name in ("image-size", "batch-size", "steps", "windows"):
        parser.add_argument(f"--{name}", type=int)
    options = parser.parse_args()
    contestant = CONTESTANTS[options.contestant]
    timm = contestant.library == "timm"
    measure = measure_timm if timm else measure_keras
    losses, compiled, seconds, precision = measure(options, contestant)
    packages = ("timm", "torch") if timm else ("keras", os.environ["KERAS_BACKEND"])
    versions = (f"{name} {importlib.metadata.version(name)}" for name in packages)
    device, peak = device_and_peak()
    result = {"losses": losses, "compile_seconds": compiled, "seconds": seconds}
    result |= {"precision": precision, "device": device, "peak": peak}
    print(json.dumps({**result, "versions": " ".join(versions)}))


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # for tests.peers
    main()
