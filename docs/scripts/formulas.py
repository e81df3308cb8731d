"""LaTeX formulas as MathML: drawn by the browser, without a script or a network."""

import latex2mathml.converter


def as_mathml(source: str, *_, **__) -> str:
    """Format a fenced block of LaTeX, a formula a line, for pymdownx.superfences."""
    lines = [line for line in source.splitlines() if line.strip()]
    drawn = (latex2mathml.converter.convert(line, display="block") for line in lines)
    return f'<div class="math">{"".join(drawn)}</div>'
