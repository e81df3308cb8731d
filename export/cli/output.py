"""What `vit-export` prints of an export and of a check."""

import collections

import rich
import rich.markup
import rich.table

from ..errors import MissingDependency


def summary(report):
    """A table of an `ExportReport`."""
    table = rich.table.Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = {
        "file": f"{report.path}  {report.size_bytes / 1e6:.2f} MB",
        "scheme": report.scheme,
        "target": report.target,
        "input": report.input,
        "output": report.output,
        "parity": f"{report.parity} ({report.parity_images})",
        "rewrites": ", ".join(report.rewrites),
        "judged by": report.checked_by,
        "measured": _facts(report.facts),
        "opens in": report.runtime and f"TensorFlow Lite {report.runtime} and later",
        "note": "\n".join(report.notes),
    }
    if report.mixed is not None:
        unit = report.mixed["unit"]
        curve = (f"{n}: {value:.2f} {unit}" for n, value in report.mixed["curve"])
        rows["parts raised"] = "\n".join(curve)
    for name, value in rows.items():
        if value:
            table.add_row(name, rich.markup.escape(str(value)))
    rich.print(table)


def next_commands(*commands):
    """What to type next, a line each that can be copied."""
    for command in commands:
        print(f"next: vit-export {command}")


def targets(path, reports):
    """A table of `check_all`: what each target takes of a file, and what not and why.

    Arguments:
        path: of the file.
        reports: {target: `CheckReport` or `MissingDependency`}.
    """
    known = [r for r in reports.values() if not isinstance(r, MissingDependency)]
    kinds = collections.Counter(known[0].operators)
    table = rich.table.Table(
        *("target", "verdict", "by", "what it says"),
        title=f"{path}: {kinds.total()} operators of {len(kinds)} kinds; opens in "
        f"TensorFlow Lite {known[0].runtime} and later",
        title_justify="left",
    )
    for name, report in reports.items():
        if isinstance(report, MissingDependency):
            row = (name, "not asked", "", str(report))
        else:
            says = "\n".join(report.problems) or _facts(report.facts)
            row = (name, _verdict(report, kinds), report.tool, says)
        table.add_row(*map(rich.markup.escape, row))
    rich.print(table)


def _verdict(report, kinds):
    refused = {refusal.operator for refusal in report.refusals}
    word = "may take" if report.tool.startswith("by list") else "takes"
    if "" in refused:
        return "refuses the file"
    if not refused:
        return f"{word} all {len(kinds)} kinds"
    return f"refuses {len(refused)} of {len(kinds)} kinds"


def _facts(facts):
    return "\n".join(f"{key}: {value}" for key, value in facts.items() if value)
