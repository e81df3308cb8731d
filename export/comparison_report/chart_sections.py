"""The charts of a report's page, and what its sections are made of."""

import html
import re
from collections.abc import Iterator

from .charts import Point, legend, lines, scatter
from .columns import COLUMNS, is_share, metric_name
from .findings import ComparisonReport
from .measure_file import MeasuredFile

BARS = (
    "Bars are the standard error of the difference to Keras, on the same images; rings "
    "mark the files to take."
)
LAYERS = (
    "Where each layer ends, how far its values are from those of the same graph in "
    "float, on 8 calibration images. The tensor of the least SQNR of each file:"
)


def page_section(title: str, content: str) -> str:
    """Return content under a title."""
    return f"<section><h2>{title}</h2>\n{content}</section>"


def paragraph(words: str, kind: str = "") -> str:
    """Return words as a paragraph."""
    return f'<p class="{kind}">{html.escape(words)}</p>'


def command_block(command: str) -> str:
    """Return a command as it is typed; no line breaks within the names of options."""
    words = re.sub(r"(?<= )(--[\w-]+)", r"<span>\1</span>", html.escape(command))
    return f"<pre>{words}</pre>"


def made_files(report: ComparisonReport) -> list[MeasuredFile]:
    """Return the files that could be made."""
    return [file for file in report.files if file.failed is None]


def chart_sections(report: ComparisonReport) -> Iterator[str]:
    """Yield the charts: accuracy over size and latency, and error by layer."""
    files = made_files(report)
    if not files:
        return
    share = is_share(report.metric)
    name = metric_name(report.metric)
    title = f"{name} (%)" if share else name
    level = (100 * report.keras if share else report.keras, "Keras")
    names = legend(report.targets) if len(report.targets) > 1 else ""
    charts = ""
    for over, place in (
        ("size of the file (MB)", lambda file: file.size_bytes / 1e6),
        ("latency of one image here (ms)", lambda file: file.latency_ms),
    ):
        points = [_point(report, file, place(file), share) for file in files]
        drawn = scatter(points, f"{title} over {over}", (over, title), level)
        charts += f"<figure>{drawn}{names}</figure>"
    words = f'<div class="charts">{charts}</div>{paragraph(BARS, "quiet")}'
    yield page_section(f"{name[0].upper()}{name[1:]} against cost", words)
    if looked := [file for file in files if file.blocks]:
        yield page_section("Error by layer", _layers(report, looked))


def _point(report, file, x, share):
    cells = [text for column in COLUMNS[1:8] if (text := column.cell(file))]
    value = file.scores.value
    return Point(
        x=x,
        y=100 * value if share else value,
        error=file.scores.drop_noise,
        label=file.planned.scheme,
        words=f"{file.planned}: {', '.join(cells)}",
        series=report.targets.index(file.planned.target),
        marked=file in report.taken.values(),
    )


def _layers(report, looked):
    several = len(report.targets) > 1
    rows = {str(f.planned) if several else f.planned.scheme: f for f in looked}
    schemes = list(dict.fromkeys(f.planned.scheme for f in looked))
    chart = lines(
        {name: _short(f.blocks) for name, f in rows.items()},
        {
            name: (schemes.index(scheme), report.targets.index(target))
            for name, f in rows.items()
            for scheme, target in [(f.planned.scheme, f.planned.target)]
        },
        "Signal to noise at the end of each layer",
        ("layer, in order of execution", "SQNR (dB)"),
    )
    worst = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(f.worst)}</dd>"
        for name, f in rows.items()
    )
    return f'{chart}{paragraph(LAYERS, "quiet")}<dl class="words">{worst}</dl>'


def _short(blocks):
    """Blocks with names that fit under an axis."""
    found = {}
    for name, value in blocks.items():
        name = re.sub(r"^encoderblock_", "block ", name)
        found["output" if name.startswith("StatefulPartitioned") else name] = value
    return found
