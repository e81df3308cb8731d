"""The user's own layer classes, for a process that opens the model's file."""

import pkgutil
import sys
from typing import Any

# Their classes are found by Keras itself, or registered by the child.
KNOWN = ("keras", "vit_keras", "export", "builtins")


def describe_classes(model: Any, custom_objects: dict[str, Any] | None):
    """Say where the classes of a model's layers are, as JSON can hold it.

    Arguments:
        model: a Keras model, or the path of its file.
        custom_objects: {name: class or function}, or None.

    Raises:
        ValueError: some are in the script that runs, which no other process can import.
    """
    objects = dict(custom_objects or {})
    if hasattr(model, "_flatten_layers"):
        kinds = {type(layer) for layer in model._flatten_layers()}
        objects = {kind.__name__: kind for kind in kinds} | objects
    objects = {
        name: value
        for name, value in objects.items()
        if value.__module__.split(".")[0] not in KNOWN
    }
    local = [n for n, v in objects.items() if v.__module__ == "__main__"]
    if local:
        raise ValueError(
            "`model` must have layers that another process can import: the export runs "
            f"Keras on TensorFlow. {', '.join(sorted(local))} is defined in the script "
            "that runs; move it to a module of its own and import it from there, or "
            "start Python with KERAS_BACKEND=tensorflow"
        )
    homes = {n: f"{v.__module__}:{v.__qualname__}" for n, v in objects.items()}
    return {"path": [entry for entry in sys.path if entry], "objects": homes}


def import_classes(described: dict[str, Any]) -> dict[str, Any]:
    """The classes that `describe_classes` described, by their names."""
    sys.path += [entry for entry in described["path"] if entry not in sys.path]
    return {n: pkgutil.resolve_name(p) for n, p in described["objects"].items()}


def classes_of_modules(names: list[str]) -> dict[str, Any]:
    """The layer classes and functions in modules of the user's.

    Arguments:
        names: as in an import statement, from the current folder or installed.

    Raises:
        ValueError: there is no such module, or it cannot be imported.
    """
    if "" not in sys.path:
        sys.path.append("")  # the folder that the command runs in
    found = {}
    for name in names:
        try:
            module = pkgutil.resolve_name(name)
        except Exception as error:  # whatever the user's own code raises
            raise ValueError(
                f"`module` must be a Python module that defines the model's layers. "
                f"'{name}' cannot be imported: {error}"
            ) from error
        for key, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", None) == name:
                found[key] = value
    return found
