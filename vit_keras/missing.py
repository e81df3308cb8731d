"""Errors of missing packages, with the pip command."""

BACKENDS = ("tensorflow", "jax", "torch")


def explain(error: ImportError) -> ImportError:
    """Return an import error, with instructions if a Keras backend is missing.

    Arguments:
        error: raised by an import of Keras.
    """
    if error.name not in BACKENDS:
        return error
    return ImportError(
        "Keras needs a backend: pip install tensorflow, jax or torch, and name it "
        f"in the environment variable KERAS_BACKEND. {error}"
    )
