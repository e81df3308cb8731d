"""Tables and hints that `vit-export` prints."""

import collections
import shlex

from vit_keras.cli.tables import escaped, new_table, print_table

from ..errors import MissingDependency


def print_report(report):
    """Print an `ExportReport` as a table."""
    table = new_table("field", "value", wrap=("value",), show_header=False)
    table.columns[0].style = "bold"
    rows = {
        "file": f"{report.path}  {report.size_bytes / 1e6:.2f} MB",
        "scheme": report.scheme,
        "target": report.target,
        "input": report.input,
        "output": report.output,
        "takes": report.input_meaning,
        "model.predict takes": report.model_input,
        "parity": f"{report.parity} ({report.parity_images})",
        "evaluation": report.evaluation_text,
        "rewrites": ", ".join(report.rewrites),
        "checked by": report.checked_by,
        "measured": _facts(report.facts),
        "opens in": report.runtime and f"TensorFlow Lite {report.runtime} and later",
        "note": "\n".join(report.notes),
    }
    for end in report.outputs[1:]:
        rows[f"output {end.name}"] = f"{end}; {end.parity}"
    if report.mixed is not None:
        unit = report.mixed["unit"]
        curve = (f"{n}: {value:.2f} {unit}" for n, value in report.mixed["curve"])
        rows["parts in higher precision"] = "\n".join(curve)
    for name, value in rows.items():
        if value:
            table.add_row(*escaped(name, value))
    print_table(table)


def print_next(*commands):
    """Print suggested next commands, each given as a sequence of words."""
    for words in commands:
        print(f"next: vit-export {shlex.join(map(str, words))}")


def print_layer_errors(errors):
    """Print a table of `TensorError`s."""
    table = new_table("tensor", "operator", "dtype", "SQNR")
    for error in errors:
        sqnr = f"{error.sqnr_db:.1f} dB"
        table.add_row(*escaped(error.name, error.operator, error.dtype, sqnr))
    print_table(table)


def print_profile(found):
    """Print a `Profile`: two tables, by operator and by block."""
    for kind, shares in (("operator", found.operators), ("block", found.blocks)):
        table = new_table(kind, "operations", "cycles", "of all", "MACs", "of all")
        for s in shares:
            parts = f"{s.cycles_share:.1%}", f"{s.macs_share:.1%}"
            counts = f"{s.operations}", f"{s.cycles:,}", f"{s.macs:,}"
            row = (s.name, *counts[:2], parts[0], counts[2], parts[1])
            table.add_row(*escaped(*row))
        print_table(table)


def print_targets(path, reports):
    """Print which operators of a file each target supports, and the problems.

    Arguments:
        path: of the file.
        reports: {target: `CheckReport` or `MissingDependency`}.
    """
    known = [r for r in reports.values() if not isinstance(r, MissingDependency)]
    kinds = collections.Counter(known[0].operators)
    print(
        f"{path}: {kinds.total()} operators of {len(kinds)} types; opens in TensorFlow "
        f"Lite {known[0].runtime} and later"
    )
    table = new_table("target", "result", "checked by", "details", wrap=("details",))
    for name, report in reports.items():
        if isinstance(report, MissingDependency):
            row = (name, "not checked", "", str(report))
        else:
            details = "\n".join(report.problems) or _facts(report.facts)
            row = (name, _result(report, kinds), report.tool, details)
        table.add_row(*escaped(*row))
    print_table(table)


def _result(report, kinds):
    from ..evaluation.tools.result import is_list

    unsupported = {problem.operator for problem in report.unsupported}
    if "" in unsupported:
        return "file not supported"
    word = "listed" if is_list(report.tool) else "supported"
    return f"{len(kinds) - len(unsupported)}/{len(kinds)} op types {word}"


def _facts(facts):
    return "\n".join(f"{key}: {value}" for key, value in facts.items() if value)
