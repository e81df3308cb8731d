"""Several devices of one machine, by the engines that Keras has for it."""

import contextlib
import sys

import keras


def on_accelerator() -> bool:
    """Whether Keras computes on a GPU or TPU."""
    if keras.backend.backend() == "torch":  # no keras.distribution there
        return sys.modules["torch"].cuda.is_available()
    names = keras.distribution.list_devices()
    return any(not name.startswith("cpu") for name in names)


@contextlib.contextmanager
def spread(count: int | None):
    """What is built and fitted inside divides every batch over some devices.

    On JAX by `keras.distribution.DataParallel`, on TensorFlow by
    `tf.distribute.MirroredStrategy`: each device has all weights and a part of the
    batch, and the gradients are averaged.

    Arguments:
        count: number of devices; None or 1 changes nothing.

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
            f"`devices` must be 1 on the backend {backend}: Keras spreads over several "
            f"on jax and tensorflow. Received: devices={count}"
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
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=names[:count])
    )
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def feed(stream, start: int, devices: int | None):
    """A stream from batch `start` on, in the form that `fit` takes.

    Over several devices TensorFlow opens its input more than once: a generator would
    lose batches, where a data set begins anew.
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
