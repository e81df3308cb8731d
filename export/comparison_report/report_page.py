"""The page of a report: one HTML file that needs no other."""

import html
import pathlib
import string

from ..targets import TARGETS
from .chart_sections import (
    chart_sections,
    command_block,
    made_files,
    page_section,
    paragraph,
)
from .columns import (
    COLUMNS,
    counted,
    metric_name,
    metric_text,
    verdict_text,
)
from .findings import ComparisonReport
from .measure_file import MeasuredFile

PROSE = "verdict"  # the column whose cells are lists
LATENCY = (
    "Latencies are of one run on {processor}: LiteRT with {threads}, all "
    "files in turn, {runs} rounds, so that whatever else the machine did slowed all of "
    "them. Their ratios count, not their milliseconds, and they are of this processor: "
    "what a tool estimates for its own device is in the column verdict."
)


def make_report_page(report: ComparisonReport, pictures: str) -> str:
    """Return the page.

    Arguments:
        report: what it says.
        pictures: HTML with predictions, or "".
    """
    parts = [
        _head(report),
        page_section("Take this one", _cards(report)),
        page_section("All files", _table(report)),
        *chart_sections(report),
    ]
    if pictures:
        parts.append(pictures)
    parts += [
        page_section("What the columns mean", _meanings(report)),
        page_section("How it was measured", _method(report)),
    ]
    template = pathlib.Path(__file__).with_name("report_page.html").read_text("utf-8")
    title = html.escape(f"{report.model}: {len(made_files(report))} files compared")
    return string.Template(template).substitute(title=title, body="\n".join(parts))


def _head(report):
    keras = metric_text(report.keras, report.keras_noise, report.metric)
    made, failed = made_files(report), len(report.files) - len(made_files(report))
    words = f"{counted(len(made), 'file')} for {', '.join(report.targets)}"
    words += f"; {failed} refused" if failed else ""
    return (
        f"<h1>{html.escape(report.model)}</h1>"
        + paragraph(
            f"{words}. Keras: {metric_name(report.metric)} {keras} on {report.images}.",
            "lead",
        )
        + (command_block(report.command) if report.command else "")
    )


def _cards(report):
    cards = []
    for target, file in report.taken.items():
        where = f"for {target}: {TARGETS[target].summary}"
        if file is None:
            cards.append(
                f'<div class="card none"><div class="name">None</div>'
                f"{paragraph(where, 'quiet')}"
                f"{paragraph(_nearest(report, target))}</div>"
            )
            continue
        facts = (
            (column.cell(file), column.title.format(metric=metric_name(report.metric)))
            for column in COLUMNS[1:7]
        )
        shown = "".join(
            f"<div><b>{html.escape(text)}</b><span>{title}</span></div>"
            for text, title in facts
            if text
        )
        cards.append(
            f'<div class="card"><div class="name">{file.planned.scheme}</div>'
            f'{paragraph(where, "quiet")}<div class="facts">{shown}</div>'
            f"{command_block(report.commands[target])}</div>"
        )
    rule = paragraph(f"For each target {report.budget.rule}.", "quiet")
    return f'{rule}<div class="cards">{"".join(cards)}</div>'


def _nearest(report, target):
    """Say why no file is taken, and what would be."""
    files = [f for f in made_files(report) if f.planned.target == target]
    if not files:
        return "No file could be made; the table says why."
    able = [f for f in files if f.fits and f.scores]
    if not able:
        return "The tool of the target takes none of the files whole."
    least = min(able, key=lambda f: f.scores.drop if f.scores else 0.0)
    cells = ", ".join(
        COLUMNS[i].cell(least) for i in (1, 3, 6) if COLUMNS[i].cell(least)
    )
    return (
        f"No file is within it. The most accurate one, {least.planned.scheme}: {cells}."
    )


def _table(report):
    titles = [c.title.format(metric=metric_name(report.metric)) for c in COLUMNS]
    head = "".join(
        f'<th class="{"prose" if title == PROSE else ""}">{html.escape(title)}</th>'
        for title in titles
    )
    groups = []
    for target in report.targets:
        rows = [
            f'<tr class="target"><th colspan="{len(COLUMNS)}" scope="rowgroup">'
            f"{target}: {html.escape(TARGETS[target].summary)}</th></tr>"
        ]
        files = [f for f in report.files if f.planned.target == target]
        rows += [_row(file, titles, report.taken[target] is file) for file in files]
        groups.append(f"<tbody>{''.join(rows)}</tbody>")
    table = (
        f'<div class="wide"><table class="files"><thead><tr>{head}</tr></thead>'
        f"{''.join(groups)}</table></div>"
    )
    if report.impossible:
        pairs = "".join(
            f"<li>{html.escape(pair)}: {html.escape(reason)}</li>"
            for pair, reason in report.impossible.items()
        )
        table += (
            f"<details><summary>Not possible: {counted(len(report.impossible), 'pair')}"
            f"</summary><ul>{pairs}</ul></details>"
        )
    return table


def _row(file: MeasuredFile, titles, taken):
    if file.failed is not None:
        return (
            f'<tr class="failed"><td>{file.planned.scheme}</td><td class="prose" '
            f'colspan="{len(titles) - 1}" data-title="refused">'
            f"{html.escape(file.failed)}</td></tr>"
        )
    cells = []
    for column, title in zip(COLUMNS, titles, strict=True):
        text, kind = html.escape(column.cell(file)), ""
        if title == PROSE:
            kind = ' class="prose"'
            text = "".join(_verdict(verdict) for verdict in file.verdicts)
            text = f"<ul>{text}</ul>" if text else ""
        elif column is COLUMNS[0] and taken:
            text += '<span class="badge">take</span>'
        name = "" if column is COLUMNS[0] else f' data-title="{html.escape(title)}"'
        cells.append(f"<td{kind}{name}>{text}</td>")
    return f"<tr{' class=taken' if taken else ''}>{''.join(cells)}</tr>"


def _verdict(verdict):
    kind = ' class="no"' if verdict.supported is False else ""
    tool = "" if verdict.supported is None else f" ({verdict.tool})"
    return f"<li{kind}>{html.escape(verdict_text(verdict) + tool)}</li>"


def _meanings(report):
    rows = "".join(
        f"<dt>{html.escape(column.title.format(metric=metric_name(report.metric)))}</dt>"
        f"<dd>{html.escape(column.meaning)}</dd>"
        for column in COLUMNS
    )
    return f'<dl class="words">{rows}</dl>'


def _method(report):
    versions = ", ".join(f"{name} {v}" for name, v in report.versions.items())
    speed = LATENCY.format(
        processor=report.processor,
        threads=counted(report.threads, "thread"),
        runs=report.runs,
    )
    words = [
        f"Reported: {report.images}. Calibrated on others: {report.calibration}.",
        speed,
        *report.notes,
        f"Versions: {versions}.",
    ]
    return "".join(paragraph(line) for line in words)
