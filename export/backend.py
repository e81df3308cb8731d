"""The Keras backend: tracing and conversion need TensorFlow's."""

import contextlib
import importlib.util
import logging
import os

from .errors import missing


def here():
    """Whether this process runs Keras on TensorFlow.

    Raises:
        MissingDependency: TensorFlow is not installed at all.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise missing("tensorflow")
    import keras

    return keras.backend.backend() == "tensorflow"


def quietly(function, *args, **kwargs):
    """Call a chatty function of TensorFlow without what it prints at file level."""
    root = logging.getLogger("tensorflow")
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(None):
            return function(*args, **kwargs)
    finally:
        root.setLevel(level)


def require_tensorflow(name: str) -> None:
    """Refuse another backend than TensorFlow's.

    Raises:
        ValueError: Keras runs on another.
        MissingDependency: the extra "qat" is not installed.
    """
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"`{name}` needs Keras on TensorFlow: save the model as a .keras file, "
            "start Python with KERAS_BACKEND=tensorflow, and load it there. Received: "
            f"backend={backend!r}"
        )
    if importlib.util.find_spec("tensorflow_model_optimization") is None:
        raise missing("tensorflow-model-optimization", "qat")


@contextlib.contextmanager
def environment():
    """Importing it tells all of TensorFlow, and every child process, to use Keras 2."""
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        yield
    finally:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
        if before is not None:
            os.environ["TF_USE_LEGACY_KERAS"] = before
