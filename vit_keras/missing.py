"""What a missing package means, with the line that brings it."""

BACKENDS = ("tensorflow", "jax", "torch")


def explain(error: ImportError) -> ImportError:
    """An import error as it is, or with the way out where a Keras backend is missing.

    Arguments:
        error: of an import of Keras.
    """
    if error.name not in BACKENDS:
        return error
    return ImportError(
        "Keras needs a backend: pip install tensorflow, jax or torch, and name it "
        f"in the environment variable KERAS_BACKEND. {error}"
    )
