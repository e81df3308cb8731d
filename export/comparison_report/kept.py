"""What was found about a file, kept for a run that goes on after it was stopped."""

import hashlib
import json
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

from vit_keras.atomic import publishing
from vit_keras.text_files import read_json

from ..evaluation.benchmark import size_bytes
from ..progress import stage


class Kept:
    """Findings about one file in JSON, each with what it was found from.

    Arguments:
        path: of the JSON; one that is damaged, as by a full disk, counts as none.
        name: of the file, for messages.

    Attributes:
        anew: steps that were not kept.
    """

    def __init__(self, path: pathlib.Path, name: str):
        self.path, self.name, self.found = path, name, {}
        self.anew: list[str] = []
        if path.is_file():
            try:
                self.found = dict(read_json(path))
                if not all(
                    isinstance(row, dict) and isinstance(row.get("of"), dict)
                    for row in self.found.values()
                ):
                    raise ValueError("a row is no finding")
            except (ValueError, TypeError):
                self.found = {}
                warnings.warn(f"'{path}' is damaged: {name} is made anew", stacklevel=2)

    def get(
        self, step: str, of: dict[str, Any], find: Callable[[], Any], good: bool = True
    ) -> Any:
        """Return a finding: the kept one, if it was found from the same, else anew.

        Arguments:
            step: its name.
            of: what it depends on, plain data: hashes, options, versions.
            find: function that returns it, plain data.
            good: whether the kept one may be taken: what it is about is still there.
        """
        of = json.loads(json.dumps(of))  # as it was kept: tuples are lists there
        known = self.found.get(step)
        if known is not None and good:
            if known["of"] == of and "found" in known:
                return known["found"]
            old = known["of"]
            other = sorted(
                str(key) for key in {*old, *of} if old.get(key) != of.get(key)
            )
            warnings.warn(
                f"{self.name}, {step}: found anew, because these differ from the run "
                f"before: {', '.join(other)}",
                stacklevel=2,
            )
        stage(f"{self.name}: {step}")
        self.anew.append(step)
        self.found[step] = {"of": of, "found": find()}
        with publishing(self.path) as work:
            work.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        return self.found[step]["found"]


def file_hash(path: pathlib.Path) -> str | None:
    """SHA-256 of a file; None if there is none."""
    if not path.is_file() or not size_bytes(path):
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_hash(model: Any) -> str:
    """SHA-256 of a model's file, or of the settings and weights of one in memory."""
    if isinstance(model, str | pathlib.PurePath):
        return str(file_hash(pathlib.Path(model)))
    digest = hashlib.sha256(json.dumps(model.get_config(), default=str).encode())
    for value in model.get_weights():
        digest.update(value.tobytes())
    return digest.hexdigest()
