"""The columns of a report: what each is called, means, and how it is written."""

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import Any

from vit_keras.heads import HEADS

from ..evaluation.tools.result import is_list
from .measure_file import MeasuredFile
from .scores import FileScores
from .verdicts import Verdict

SHORT = {"accuracy": "accuracy", "mean_iou": "mean IoU"}


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the page's and the terminal's table.

    Arguments:
        title: its head; "{metric}" is the metric of the model's head.
        meaning: in a line.
        cell: function from a `MeasuredFile` to its text, "" for nothing.
    """

    title: str
    meaning: str
    cell: Callable[[MeasuredFile], str]


def metric_name(metric: str) -> str:
    """Return what a metric is called in a table."""
    return SHORT.get(metric, metric.replace("_", " "))


def is_share(metric: str) -> bool:
    """Whether a metric is a share, which is written in percent."""
    return any(
        head.metric == metric and head.higher_is_better for head in HEADS.values()
    )


def metric_text(value: float, noise: float, metric: str) -> str:
    """Return "83.92 ± 0.37 %", or of an error "0.123 ± 0.004"."""
    if is_share(metric):
        return f"{100 * value:.2f} ± {100 * noise:.2f} %"
    return f"{value:.4g} ± {noise:.2g}"


def _scored(text: Callable[[FileScores], str]):
    return lambda file: "" if file.scores is None else text(file.scores)


def drop_text(scores: FileScores) -> str:
    """Return what a file loses against Keras, "-0.25 ± 0.19 points"."""
    unit = " points" if is_share(scores.metric) else ""
    change = round(-scores.drop, 2) or 0.0  # not -0.00
    return f"{change:+.2f} ± {scores.drop_noise:.2f}{unit}"


def agreement_text(scores: FileScores) -> str:
    """Return the agreement in percent; "" of values."""
    return "" if scores.agreement is None else f"{scores.agreement:.2%}"


def sqnr_text(scores: FileScores) -> str:
    """Return the SQNR in dB; "" of equal outputs."""
    return "" if scores.sqnr_db is None else f"{scores.sqnr_db:.1f} dB"


def memory_text(megabytes: float | None) -> str:
    """Return memory in MB; "" where none was measured."""
    return _number(megabytes, "MB", 1)


def _number(value, unit, digits=2):
    return "" if value is None else f"{value:.{digits}f} {unit}"


def counted(number: int, thing: str) -> str:
    """Return "1 file", "2 files"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def verdict_text(verdict: Verdict) -> str:
    """Return a verdict in a line, with the estimates that matter."""
    if verdict.supported is None:
        return f"{verdict.target}: not asked: {verdict.tool}"
    facts, listed = verdict.facts, is_list(verdict.tool)
    word = ("listed" if listed else "yes") if verdict.supported else "no"
    parts = [f"{verdict.target}: {word}"]
    if "estimate_ms" in facts:
        parts.append(
            f"{facts['estimate_ms']:g} ms, {facts['sram_kb']:,} KB SRAM by Vela"
        )
    if facts.get("arena_bytes"):
        parts.append(f"arena {facts['arena_bytes'] / 1e3:,.0f} KB")
    if facts.get("outside XNNPACK"):
        outside = counted(sum(facts["outside XNNPACK"].values()), "operator")
        parts.append(f"{outside} outside XNNPACK")
    for name, inner in facts.items():
        if isinstance(inner, dict) and "partitions" in inner:
            parts.append(f"{name} {counted(inner['partitions'], 'partition')}")
    parts += verdict.problems[:2]
    return "; ".join(parts)


COLUMNS = (
    Column(
        "scheme",
        "how weights and activations are stored and computed",
        lambda file: file.planned.scheme,
    ),
    Column(
        "size",
        "of the file, in 10^6 bytes",
        lambda file: _number(file.size_bytes and file.size_bytes / 1e6, "MB"),
    ),
    Column(
        "{metric}",
        "on the reported images, with its standard error: what another draw of as many "
        "images would change",
        _scored(lambda s: metric_text(s.value, s.noise, s.metric)),
    ),
    Column(
        "against Keras",
        "the same, minus that of the Keras model on the same images, with the standard "
        "error of the difference",
        _scored(drop_text),
    ),
    Column(
        "agreement",
        "share of images, or of pixels, to which the file gives the class that Keras "
        "gives",
        _scored(agreement_text),
    ),
    Column(
        "SQNR",
        "signal to quantisation noise of the outputs against Keras; 20 dB is a tenth "
        "of the signal's amplitude",
        _scored(sqnr_text),
    ),
    Column(
        "latency",
        "median wall time of one image in LiteRT on this processor, all files in turn",
        lambda file: _number(file.latency_ms, "ms"),
    ),
    Column(
        "CPU time",
        "the same in CPU time, all threads added up",
        lambda file: _number(file.cpu_ms, "ms"),
    ),
    Column(
        "memory",
        "what opening the file and running it once adds to the resident memory of a "
        "process of its own, at its peak",
        lambda file: memory_text(file.memory_mb),
    ),
    Column(
        "verdict",
        "of the target's own compiler or runtime, or of its maker's list, with its "
        "estimates",
        lambda file: (
            file.failed
            or " · ".join(verdict_text(verdict) for verdict in file.verdicts)
        ),
    ),
)

# Facts of the tools that have a column of their own.
FACTS = ("estimate_ms", "sram_kb", "off_chip_kb", "arena_bytes", "partitions")
FIELDS = (
    *("scheme", "target", "file", "size_bytes", "metric", "value", "noise"),
    *("drop", "drop_noise", "agreement", "sqnr_db", "images"),
    *("latency_ms", "cpu_ms", "runs", "threads", "memory_mb"),
    *("supported", "tool", *FACTS, "taken", "reason", "processor", "versions"),
)


def csv_text(
    files: Sequence[MeasuredFile],
    keras: dict[str, Any],
    common: dict[str, Any],
    taken: Sequence[MeasuredFile],
    impossible: dict[str, str],
) -> str:
    """Return the table as CSV: the Keras model, the files, and pairs without one.

    Arguments:
        files: measured.
        keras: fields of the Keras model's row.
        common: fields that all rows share.
        taken: files that are recommended.
        impossible: {"int8 for web": why not}.
    """
    rows = [{"scheme": "keras", **keras, **common}]
    for file in files:
        rows.append(
            {**_fields(file), **common, "taken": "yes" if file in taken else ""}
        )
    for pair, reason in impossible.items():
        scheme, target = pair.split(" for ")
        rows.append({"scheme": scheme, "target": target, "reason": reason})
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _fields(file):
    scores = {} if file.scores is None else dataclasses.asdict(file.scores)
    scores.pop("differing", None)
    facts = {}
    for verdict in file.verdicts[:1]:
        whole = {None: "not asked", True: "yes", False: "no"}[verdict.supported]
        facts = {"supported": whole, "tool": verdict.tool}
        inner = [v for v in verdict.facts.values() if isinstance(v, dict)]
        for known in (*inner, verdict.facts):
            facts |= {
                name: known[name] for name in FACTS if known.get(name) is not None
            }
    rounded = {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in {
            **scores,
            "latency_ms": file.latency_ms,
            "cpu_ms": file.cpu_ms,
            "memory_mb": file.memory_mb,
        }.items()
    }
    return {
        "scheme": file.planned.scheme,
        "target": file.planned.target,
        "file": file.path.name if file.failed is None else "",
        "size_bytes": file.size_bytes,
        **{name: "" if value is None else value for name, value in rounded.items()},
        **facts,
        "reason": file.failed or "",
    }
