"""The errors that a user of this package may want to tell apart."""


class MissingDependency(ImportError):
    """A package of an extra is not installed; the message has the pip line."""


class UnsupportedOperators(ValueError):
    """The model needs operators that are not builtin in TFLite."""


class ParityError(RuntimeError):
    """The artefact disagrees with the model; `parity` holds the measurement."""

    def __init__(self, message, parity=None):
        super().__init__(message)
        self.parity = parity


def missing(package, extra="export"):
    """The error for an import that failed."""
    return MissingDependency(
        f"{package} is needed here and not installed: "
        f"pip install 'vit-keras-edge[{extra}]'"
    )
