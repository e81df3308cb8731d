"""The files of a report: pairs of scheme and target that the tables allow."""

import dataclasses
from collections.abc import Sequence

from ..schemes import SCHEMES, get_scheme
from ..targets import ANY, TARGETS, get_target

ALL = "all"
# From exact to small; the others are for devices, or seldom better.
DEFAULT_SCHEMES = (
    *("float32", "float16", "dynamic_int8", "dynamic_int4"),
    *("int8", "int8_attention16"),
)
DEFAULT_TARGETS = (ANY,)


@dataclasses.dataclass(frozen=True)
class PlannedFile:
    """One file of a report.

    Attributes:
        scheme, target: names in the tables.
    """

    scheme: str
    target: str

    @property
    def name(self) -> str:
        """Of the file, without suffix: "int8_cpu"."""
        return f"{self.scheme}_{self.target}"

    def __str__(self):
        return f"{self.scheme} for {self.target}"


def plan_files(
    schemes: Sequence[str] | str | None = None,
    targets: Sequence[str] | str | None = None,
) -> tuple[list[PlannedFile], dict[str, str]]:
    """Pair schemes with targets.

    Arguments:
        schemes: names in `SCHEMES`, or "all"; None is `DEFAULT_SCHEMES`.
        targets: names in `TARGETS`, or "all"; None is `DEFAULT_TARGETS`.

    Returns:
        The files, target by target, and {"int8 for web": why not} of the other pairs.

    Raises:
        ValueError: an unknown name, or no pair is possible.
    """
    names = _names(schemes, DEFAULT_SCHEMES, SCHEMES, get_scheme, "schemes")
    devices = _names(targets, DEFAULT_TARGETS, TARGETS, get_target, "targets")
    files, impossible = [], {}
    for target in devices:
        able = get_target(target).schemes
        for scheme in names:
            file = PlannedFile(scheme, target)
            if scheme in able:
                files.append(file)
            else:
                impossible[str(file)] = f"{target} takes {', '.join(able)}"
    if not files:
        reasons = "; ".join(dict.fromkeys(impossible.values()))
        raise ValueError(
            f"`schemes` must have one that the targets take: {reasons}. "
            f"Received: schemes={', '.join(names)}"
        )
    return files, impossible


def _names(given, default, table, get, argument):
    """Names of a table, each once, in the order given."""
    if given is None:
        given = default
    if isinstance(given, str):
        given = tuple(table) if given == ALL else (given,)
    names = list(dict.fromkeys(given))
    if not names:
        raise ValueError(f"`{argument}` must be one name at least. Received: none")
    for name in names:
        get(name)
    return names
