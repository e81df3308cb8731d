"""Training of one model in several processes, by `keras.distribution` on JAX.

Each process runs the same command with Keras' own environment variables:
`KERAS_DISTRIBUTION_JOB_ADDRESSES` (host:port of process 0),
`KERAS_DISTRIBUTION_NUM_PROCESSES` and `KERAS_DISTRIBUTION_PROCESS_ID`. All compute, and
all read the same data and the same folder of the run; only process 0 writes there.
"""

import contextlib
import json
import os

import keras
import numpy as np


def init_processes() -> tuple[int, int]:
    """Initialise the processes of the environment; before JAX computes anything.

    TensorFlow's `TF_CONFIG` is refused: in Keras 3.15 `fit` fails under
    `MultiWorkerMirroredStrategy`, when it builds the model from a batch of a tuple and
    when it averages scalar metrics over the workers.

    Returns:
        (index, count) of this process.

    Raises:
        ValueError: the backend does not support it, or the connection failed.
    """
    wanted = int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", 1))
    backend = keras.backend.backend()
    if backend == "tensorflow":
        wanted = max(wanted, _workers(os.environ.get("TF_CONFIG", "{}")))
    if wanted == 1:
        return process_index()
    if backend != "jax":
        raise ValueError(
            "The backend must be jax (KERAS_BACKEND=jax) to train in several "
            "processes: Keras' `fit` does not support others. Received: "
            f"{wanted} processes on {backend}"
        )
    try:
        keras.distribution.initialize()
    except RuntimeError as error:  # initialised already, or too late
        if process_index()[1] != wanted:
            raise ValueError(
                f"{wanted} processes must be reachable, and JAX unused before them. "
                f"Received: {error}"
            ) from error
    return process_index()


def _workers(config):
    """Return the number of computing processes in a `TF_CONFIG`."""
    cluster = json.loads(config).get("cluster", {})
    return sum(len(cluster.get(kind, ())) for kind in ("chief", "worker")) or 1


def process_index() -> tuple[int, int]:
    """Return (index, count) of this process."""
    if keras.backend.backend() != "jax":
        return 0, 1
    every = keras.distribution.DataParallel()  # only asked for the processes
    return every.data_shard_id, every.num_processes


def barrier() -> None:
    """Wait until every process is here."""
    if process_index()[1] == 1:
        return
    mesh = keras.distribution.DataParallel().device_mesh
    one_each = np.zeros(mesh.devices.size, "float32")
    split = keras.distribution.TensorLayout(("batch",), mesh)
    whole = keras.distribution.TensorLayout((None,), mesh)
    value = keras.distribution.distribute_tensor(one_each, split)
    np.asarray(keras.distribution.distribute_tensor(value, whole))


@contextlib.contextmanager
def undistributed():
    """Build, save or load inside a block without the distribution, in this process.

    Saving and loading need it: Keras builds an optimizer for them once, to look at its
    attributes, and process 0 would wait for the others to do the same.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)
