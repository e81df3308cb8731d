"""Result of a checker: the operators that a target does not support."""

import dataclasses
from typing import Any

BY_LIST = "by list"  # begins the name of a tool that is a published list


def is_list(tool: str) -> bool:
    """Whether a tool, by its name, is a published list, which proves nothing."""
    return tool.startswith(BY_LIST)


@dataclasses.dataclass(frozen=True)
class UnsupportedOp:
    """Operators of one kind that a target does not support.

    Attributes:
        operator: its name, or "" if the reason concerns the whole file.
        count: number of such operators.
        reason: in the tool's words if it gives any.
        fix: how to avoid it, or "".
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
    """Result of a checker.

    Attributes:
        tool: name and version of the compiler or runtime, or the list and its date.
        unsupported: empty if the target supports the whole file.
        facts: measurements or estimates, with units in the names.
    """

    tool: str
    unsupported: tuple[UnsupportedOp, ...] = ()
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
