"""Charts as inline SVG, without other libraries: text in them can be read aloud."""

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence

from .chart_axis import Axis

WIDTH, HEIGHT = 560, 360
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 26, 46
LETTER, LINE = 6.3, 13  # width and height of text of 12 pixels, about
COLOURS = 6  # that the page has, as classes c0 to c5, and dashes d0 to d5


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a scatter chart.

    Attributes:
        x, y: where it is.
        error: of y, drawn as a bar.
        label: beside it.
        words: what is said of it on hovering.
        series: number of its colour.
        marked: whether it has a ring.
    """

    x: float
    y: float
    error: float
    label: str
    words: str
    series: int
    marked: bool = False


def scatter(
    points: Sequence[Point],
    title: str,
    titles: tuple[str, str],
    level: tuple[float, str] | None = None,
) -> str:
    """Draw points with labels that do not cover each other; neighbours share one.

    Arguments:
        points: at least one.
        title: of the chart, for those who hear it.
        titles: of the axes.
        level: (y, words) of a horizontal line.
    """
    heights = [v for p in points for v in (p.y - p.error, p.y + p.error)]
    heights += [level[0]] if level else []
    across = Axis([p.x for p in points], LEFT, WIDTH - RIGHT, log=True)
    up = Axis(heights, HEIGHT - BOTTOM, TOP)
    parts = [*_axes(across, up, titles)]
    if level:
        y = up(level[0])
        parts.append(
            f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" '
            f'y2="{y:.1f}"/><text class="small" x="{LEFT + 4}" y="{y - 5:.1f}">'
            f"{html.escape(level[1])}</text>"
        )
    places = [(across(p.x), up(p.y)) for p in points]
    named: dict[str, list[tuple[float, float]]] = {}  # where labels are
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for point, (x, _) in zip(points, places, strict=True):
        taken.append(
            (x - 1, up(point.y + point.error), x + 1, up(point.y - point.error))
        )
    if level:
        width = LETTER * len(level[1])
        y = up(level[0])
        taken.append((LEFT + 4, y - 5 - LINE, LEFT + 4 + width, y + 1))
    for point, (x, y) in zip(points, places, strict=True):
        top, bottom = up(point.y + point.error), up(point.y - point.error)
        words = ""
        if not any(_near((x, y), place) for place in named.get(point.label, ())):
            anchor, (tx, ty) = _free_place(x, y, point.label, taken)
            words = (
                f'<text x="{tx:.1f}" y="{ty:.1f}" text-anchor="{anchor}">'
                f"{html.escape(point.label)}</text>"
            )
            named.setdefault(point.label, []).append((x, y))
        ring = f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="9"/>'
        parts.append(
            f'<g class="point c{point.series % COLOURS}" tabindex="0">'
            f"<title>{html.escape(point.words)}</title>"
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>{ring if point.marked else ""}'
            f"{words}</g>"
        )
    return _svg(parts, title)


def lines(
    series: Mapping[str, Mapping[str, float]],
    styles: Mapping[str, tuple[int, int]],
    title: str,
    titles: tuple[str, str],
) -> str:
    """Draw a line for each name over common places.

    Arguments:
        series: {name: {place: value}}; places in order.
        styles: {name: (number of its colour, number of its dashes)}.
        title, titles: as for `scatter`.
    """
    # A row may lack some; the longest has them in order.
    rows = sorted(series.values(), key=len, reverse=True)
    places = list(dict.fromkeys(place for row in rows for place in row))
    across = Axis([0, max(len(places) - 1, 1)], LEFT + 8, WIDTH - RIGHT - 8)
    across.low, across.high = 0, max(len(places) - 1, 1)
    up = Axis(
        [v for row in series.values() for v in row.values()], HEIGHT - BOTTOM, TOP
    )
    parts = [*_axes(None, up, titles)]
    end = 0.0  # of the label before
    for i, place in enumerate(places):
        half = LETTER * len(place) / 2
        if across(i) - half < end + LETTER:
            continue
        end = across(i) + half
        parts.append(
            f'<text class="small" x="{across(i):.1f}" y="{HEIGHT - BOTTOM + 16}" '
            f'text-anchor="middle">{html.escape(place)}</text>'
        )
    keys = []
    for name, row in series.items():
        colour, dash = (number % COLOURS for number in styles[name])
        keys.append(
            f'<span class="c{colour}"><svg class="key" viewBox="0 0 30 8" aria-hidden='
            f'"true"><line class="d{dash}" x1="0" x2="30" y1="4" y2="4"/></svg>'
            f"{html.escape(name)}</span>"
        )
        dots = [(across(places.index(k)), up(v), k, v) for k, v in row.items()]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in dots)
        marks = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>'
            f"{html.escape(f'{name}, {place}: {value:.1f}')}</title></circle>"
            for x, y, place, value in dots
        )
        parts.append(
            f'<g class="point c{colour}" tabindex="0">'
            f"<title>{html.escape(name)}</title>"
            f'<polyline class="d{dash}" points="{path}"/>{marks}</g>'
        )
    return f'{_svg(parts, title)}<p class="legend">{"".join(keys)}</p>'


def legend(names: Sequence[str]) -> str:
    """Return the names of colours, in their order."""
    spans = (
        f'<span class="c{i % COLOURS}"><i></i>{html.escape(name)}</span>'
        for i, name in enumerate(names)
    )
    return f'<p class="legend">{"".join(spans)}</p>'


def _svg(parts, title):
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="'
        f'{html.escape(title)}">{"".join(parts)}</svg>'
    )


def _axes(across: Axis | None, up: Axis, titles):
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    for value in up.ticks():
        y = up(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield (
            f'<text class="small" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{value:.6g}</text>"
        )
    for value in across.ticks() if across else ():
        x = across(value) if across else 0
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{floor}"/>'
        yield (
            f'<text class="small" x="{x:.1f}" y="{floor + 16}" text-anchor="middle">'
            f"{value:.6g}</text>"
        )
    middle = (LEFT + right) / 2
    yield (
        f'<text class="small" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{html.escape(titles[0])}</text>"
        f'<text class="small" x="4" y="14">{html.escape(titles[1])}</text>'
    )


def _near(a, b):
    """Whether two points may share a label."""
    return math.dist(a, b) < 2 * LINE


def _free_place(x, y, label, taken):
    """Return where a label covers nothing: (text-anchor, (x, y)); it is then taken."""
    width = LETTER * len(label)
    choices = []
    for dy in (4, -9, 17, -22, 30, -35, 43, -48, 56):
        choices.append(("start", x + 9, x + 9, y + dy))
        choices.append(("end", x - 9, x - 9 - width, y + dy))
    inside = [c for c in choices if c[2] >= LEFT and c[2] + width <= WIDTH - 2]
    inside = [c for c in inside if TOP <= c[3] <= HEIGHT - BOTTOM - 2] or choices

    def covered(choice):
        left, bottom = choice[2], choice[3] + 2
        box = (left, bottom - LINE, left + width, bottom)
        return sum(
            box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3]
            for t in taken
        )

    anchor, at, left, base = min(inside, key=covered)
    taken.append((left, base + 2 - LINE, left + width, base + 2))
    return anchor, (at, base)
