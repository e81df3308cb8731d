"""What a tool says of a file."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Operators of one kind that a target does not take.

    Attributes:
        operator: its name, or "" for what concerns the whole file.
        count: how many.
        reason: in the tool's words where it gives any.
        cure: what to do, or "".
    """

    operator: str
    count: int
    reason: str
    cure: str = ""

    def __str__(self):
        what = f"{self.operator} x{self.count}: " if self.operator else ""
        return f"{what}{self.reason}" + (f" ({self.cure})" if self.cure else "")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Attributes:
    tool: name and version of what judged, or the list and its date.
    refusals: empty if the target takes all.
    facts: what the tool measured or estimated, with units in the names.
    """

    tool: str
    refusals: tuple[Refusal, ...] = ()
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
