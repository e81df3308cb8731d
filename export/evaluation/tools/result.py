"""The result of a checker: what of a file its target does not support."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class UnsupportedOp:
    """Operators of one kind that a target does not support.

    Attributes:
        operator: its name, or "" for what concerns the whole file.
        count: how many.
        reason: in the tool's words where it gives any.
        fix: what to do, or "".
    """

    operator: str
    count: int
    reason: str
    fix: str = ""

    def __str__(self):
        what = f"{self.operator} x{self.count}: " if self.operator else ""
        return f"{what}{self.reason}" + (f" ({self.fix})" if self.fix else "")


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """Attributes:
    tool: name and version of the compiler or runtime, or the list and its date.
    unsupported: empty if the target supports all.
    facts: what the tool measured or estimated, with units in the names.
    """

    tool: str
    unsupported: tuple[UnsupportedOp, ...] = ()
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
