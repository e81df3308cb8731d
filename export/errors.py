"""Errors of this package that callers may want to handle separately."""

from typing import Any


class MissingDependency(ImportError):
    """A package of an extra is not installed; the message has the pip command."""


class UnsupportedOperators(ValueError):
    """The model needs operators that are not builtin in TFLite."""


class ParityError(RuntimeError):
    """The artefact's outputs differ from the model's; `parity` is the measurement."""

    # A `Parity`; its module imports this one.
    def __init__(self, message: str, parity: Any = None):
        super().__init__(message)
        self.parity = parity


def missing(package, extra="export"):
    """Return the error for a package that cannot be imported."""
    return MissingDependency(
        f"{package} is needed here and not installed: "
        f"pip install 'vit-keras-edge[{extra}]'"
    )
