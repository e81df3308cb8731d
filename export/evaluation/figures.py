"""Figures without a display, if matplotlib is installed."""

from typing import Any

from ..errors import missing


def new_figure(height: float = 4) -> Any:
    """Return an empty figure of a page's width, without pyplot and its windows.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing("matplotlib", "plot") from error
    return Figure(figsize=(10, height), layout="constrained")
