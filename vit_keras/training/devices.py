"""Distribution over several devices, by Keras' and TensorFlow's own engines."""

import contextlib
import sys

import keras
import numpy as np

from .processes import process_index

# Partition of a model over the mesh's axis "model" (arXiv 1909.08053, section 3): a
# device computes some heads and hidden units, and only the sums after `out` and
# `dense2` are exchanged. Pattern of a weight's path: axes. All else is replicated.
LAYOUT = {
    r".*/attention/(query|key|value)/kernel": (None, "model"),
    r".*/attention/(query|key|value)/bias": ("model",),
    r".*/attention/out/kernel": ("model", None),
    r".*/mlp/dense1/kernel": (None, "model"),
    r".*/mlp/dense1/bias": ("model",),
    r".*/mlp/dense2/kernel": ("model", None),
}


def on_accelerator() -> bool:
    """Return whether Keras computes on a GPU or TPU."""
    if keras.backend.backend() == "torch":  # no keras.distribution there
        return sys.modules["torch"].cuda.is_available()
    names = keras.distribution.list_devices()
    return any(not name.startswith("cpu") for name in names)


def resolve_devices(devices: int | None, model_parallel: int, config) -> int | None:
    """Return the number of devices to use, of all processes together.

    Arguments:
        devices: as given; None means one, or with several processes all there are.
        model_parallel: M, devices that share one copy of the weights.
        config: the `ViTConfig`, whose heads and hidden units are split in M parts.

    Raises:
        ValueError: these do not fit together, or do not fit the backend.
    """
    processes = process_index()[1]
    if processes > 1:
        number = len(keras.distribution.list_devices())
        if devices not in (None, number):
            raise ValueError(
                f"`devices` must be {number}, all devices of the {processes} "
                f"processes. Received: devices={devices}"
            )
        devices = number
    if model_parallel == 1:
        return devices
    backend, received = keras.backend.backend(), f"model_parallel={model_parallel}"
    if backend != "jax":
        raise ValueError(
            f"`model_parallel` must be 1 on the backend {backend}: Keras splits a "
            f"model on jax only. Received: {received}"
        )
    if processes > 1:
        raise ValueError(
            "`model_parallel` must be 1 with several processes, because process 0 "
            f"saves the whole model. Received: {received}, processes={processes}"
        )
    for name, value in (
        ("devices", devices or 1),
        ("num_heads", config.num_heads),
        ("mlp_dim", config.mlp_dim),
    ):
        if model_parallel < 1 or value % model_parallel:
            raise ValueError(
                f"`model_parallel` must be a positive divisor of `{name}`. Received: "
                f"{received}, {name}={value}"
            )
    return devices


@contextlib.contextmanager
def dtype_policy(name: str):
    """Set Keras' dtype policy for layers built inside a block."""
    if name == "auto":
        name = "mixed_bfloat16" if on_accelerator() else "float32"
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def jit_compile() -> bool | str:
    """Return whether XLA compiles the train step: Keras' default, but not on
    TensorFlow's CPU, where it makes a step of a ViT-Ti/16 5 % slower, and takes a
    minute to compile."""
    on_cpu = keras.backend.backend() == "tensorflow" and not on_accelerator()
    return False if on_cpu else "auto"


@contextlib.contextmanager
def distribute(count: int | None, model_parallel: int = 1):
    """Distribute models built and fitted inside a block over several devices.

    On JAX by `keras.distribution.DataParallel`, on TensorFlow by
    `tf.distribute.MirroredStrategy`: each device has all weights and a part of the
    batch, and gradients are averaged. With `model_parallel`, on JAX by
    `keras.distribution.ModelParallel`: M neighbouring devices share a part of the batch
    and one copy of the weights, split by `LAYOUT`.

    Arguments:
        count: number of devices, of all processes together; None or 1 does nothing.
        model_parallel: M, a divisor of `count`.

    Raises:
        ValueError: there are fewer devices, or the backend has no such engine.
    """
    if count is None or count == 1:
        yield
        return
    backend = keras.backend.backend()
    if backend == "jax":
        names = keras.distribution.list_devices()
    elif backend == "tensorflow":
        import tensorflow as tf

        kinds = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
        names = next(([d.name for d in kind] for kind in kinds if kind), [])
    else:
        raise ValueError(
            f"`devices` must be 1 on the backend {backend}: Keras distributes over "
            f"several on jax and tensorflow only. Received: devices={count}"
        )
    if not 1 <= count <= len(names):
        raise ValueError(
            f"`devices` must be from 1 to {len(names)} ({', '.join(names)}). "
            f"Received: devices={count}"
        )
    if backend == "tensorflow":
        with tf.distribute.MirroredStrategy(names[:count]).scope():
            yield
        return
    if model_parallel == 1:
        # Each process makes its own part of a batch, see `Stream`.
        engine = keras.distribution.DataParallel(
            devices=names[:count], auto_shard_dataset=False
        )
    else:
        mesh = keras.distribution.DeviceMesh(
            (count // model_parallel, model_parallel), ("batch", "model"), names[:count]
        )
        table = keras.distribution.LayoutMap(mesh)
        for pattern, axes in LAYOUT.items():
            table[pattern] = axes
        engine = keras.distribution.ModelParallel(
            layout_map=table, batch_dim_name="batch", auto_shard_dataset=False
        )
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(engine)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def summed_first(optimizer):
    """Make an optimizer sum gradients over TensorFlow's devices before clipping.

    Keras clips the gradient's norm on each device and sums the results. With the sum
    first, the whole batch's gradient is clipped. Otherwise the optimizer is unchanged.
    """
    if keras.backend.backend() != "tensorflow":
        return optimizer
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        return optimizer
    kind = type(optimizer)

    def apply(self, grads, trainable_variables):
        pairs = list(zip(grads, trainable_variables, strict=True))
        pairs = kind._all_reduce_sum_gradients(self, pairs)
        grads = [gradient for gradient, _ in pairs]
        kind._backend_apply_gradients(self, grads, trainable_variables)

    changes = {
        "_backend_apply_gradients": apply,
        "_all_reduce_sum_gradients": lambda self, pairs: pairs,  # they are summed
        "__module__": kind.__module__,  # a saved model names Keras' own class
    }
    optimizer.__class__ = type(kind.__name__, (kind,), changes)
    return optimizer


def training_input(stream, start: int, devices: int | None):
    """Return a stream from batch `start` on, as input of `fit`.

    On several devices TensorFlow opens its input more than once: a generator would
    lose batches, while a data set starts again.
    """
    if keras.backend.backend() != "tensorflow" or devices in (None, 1):
        return stream.batches(start)
    import tensorflow as tf

    signature = keras.tree.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype), stream[start]
    )
    return tf.data.Dataset.from_generator(
        lambda: stream.batches(start), output_signature=signature
    )


class _Gather(keras.layers.Layer):
    """Gathers an output on every device, and so in every process."""

    def call(self, inputs):
        mesh = keras.distribution.distribution().device_mesh
        layout = keras.distribution.TensorLayout((None,) * len(inputs.shape), mesh)
        return keras.distribution.distribute_tensor(inputs, layout)

    def compute_output_shape(self, input_shape):
        return input_shape


def predictor(model):
    """Return a function from images (N, H, W, C), or all inputs, to a model's outputs.

    The devices of `distribute` share the images; every process passes the same images
    and gets all outputs.
    """
    engine, (index, processes) = keras.distribution.distribution(), process_index()
    if engine is not None:
        parts = engine.num_model_replicas
    else:  # TensorFlow models keep the strategy they were built in
        strategy = getattr(model, "distribute_strategy", None)
        parts = strategy.num_replicas_in_sync if strategy else 1
    if processes > 1:
        model = keras.Model(model.input, _Gather(dtype="float32")(model.output))

    def outputs(images):
        # Devices share a batch evenly; padding is cut off.
        number = len(keras.tree.flatten(images)[0])
        size = -(-number // parts) * parts // processes

        def mine(array):
            fill = np.zeros((size * processes - number, *array.shape[1:]), array.dtype)
            return np.concatenate([array, fill])[index * size : (index + 1) * size]

        own = keras.tree.map_structure(mine, images)
        # Not predict_on_batch, which gives every device the whole batch.
        return np.asarray(model.predict(own, size, verbose=0))[:number]

    return outputs
