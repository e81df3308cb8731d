"""Tables and bars of `benchmarks/results`, the one home of measured numbers."""

import ast
import csv
import html
import pathlib

from code_tables import markdown_table

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"

# A table's rows: {column: values that are shown}; all without.
SHOWN = {
    "qualcomm": {"soc": ("SM8750", "SM8550", "SM8350")},
    "latency_cpu": {"threads": ("1",)},
    "attention": {"model": ("digits recipe, pooling=token", "examples/models/cifar10")},
}
# Bars: column of the number, columns of the name, and what the number is.
BARS = {
    "fidelity_vit_s14": ("cls_sqnr_db", ("scheme", "photos"), "SQNR in dB"),
    "latency_cpu": ("cpu_ms", ("model", "contestant"), "CPU time in ms, one thread"),
    "npu": ("estimate_ms", ("model", "file", "accelerator"), "Vela's estimate in ms"),
    "accuracy_cifar10": ("sqnr_db", ("scheme",), "SQNR in dB"),
    "qat_cifar10": ("accuracy", ("variant", "weight_bits", "seed"), "accuracy"),
    "residual_stream": ("db", ("block", "stream"), "SQNR of the stream in int8, dB"),
    "pruning": ("gzip_bytes", ("variant", "scheme"), "compressed bytes"),
}
OTHERS = ("stock", "as it is", "plain")  # names of what is compared with
COLLAPSED = 40  # rows of a table that is folded away


def table(name: str) -> str:
    """Return a result as a table; what is the same in all rows stands below it."""
    rows = _rows(name)
    chosen = SHOWN.get(name, {})
    shown = [r for r in rows if all(r[c] in v for c, v in chosen.items())]
    columns = list(shown[0])
    same = [c for c in columns if len({r[c] for r in shown}) == 1]
    same += [c for c in ("machine", "versions") if c in columns and c not in same]
    columns = [c for c in columns if c not in same]
    text = markdown_table(
        [c.replace("_", " ") for c in columns], [[r[c] for c in columns] for r in shown]
    )
    below = [f"{c.replace('_', ' ')}: {_values(shown, c)}" for c in same]
    below = [line for line in below if not line.endswith(": ")]
    more = "" if len(shown) == len(rows) else f" {len(shown)} of {len(rows)} rows."
    if len(shown) > COLLAPSED:
        text = f'<details markdown="1"><summary>Table</summary>\n\n{text}\n\n</details>'
    note = f"{'; '.join(below)}.{more} `benchmarks/results/{name}.csv`"
    return f"{text}\n\n<p class='below' markdown='1'>{note}</p>\n"


def everything() -> str:
    """Return a section for each result: what its script measures, bars, the table."""
    sections = []
    for path in sorted(RESULTS.glob("*.csv")):
        title, words = _script(path.stem)
        chart = bars(path.stem) if path.stem in BARS else ""
        heading = f"## {path.stem.partition('-cpu')[0]}"
        parts = (heading, f"**{title}**", words, chart, table(path.stem))
        sections.append("\n\n".join(part for part in parts if part))
    return "\n\n".join(sections)


def qualcomm_chips() -> str:
    """Return on how many chips Qualcomm's compiler takes a ViT-Ti/16 in one piece."""
    found = {}
    for row in _rows("qualcomm"):
        if row["model"] == "ti16":
            found.setdefault(row["scheme"], []).append(row)
    lines = []
    for scheme, rows in found.items():
        whole = [row for row in rows if row["partitions"] == "1"]
        oldest = min(int(row["hexagon"].lstrip("v")) for row in whole)
        lines.append((f"`{scheme}`", f"{len(whole)} of {len(rows)}", f"v{oldest}"))
    header = ("scheme", "chips that take it in one piece", "oldest Hexagon of these")
    return markdown_table(header, lines)


def bars(name: str) -> str:
    """Return horizontal bars of a result as SVG, in the colours of the page."""
    column, labels, unit = BARS[name]
    chosen = SHOWN.get(name, {})
    rows = [r for r in _rows(name) if r[column]]
    rows = [r for r in rows if all(r[c] in v for c, v in chosen.items())]
    names = [", ".join(filter(None, (r[c] for c in labels))) for r in rows]
    values = [float(r[column]) for r in rows]
    left, width, step = 7 * max(map(len, names)) + 12, 320, 20
    height = step * len(rows) + 24
    lines = [f'<text x="{left}" y="14" class="unit">{html.escape(unit)}</text>']
    for i, (label, value) in enumerate(zip(names, values, strict=True)):
        y, length = 22 + step * i, width * value / max(values)
        ours = not any(word in label for word in OTHERS)
        lines.append(
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">'
            f"{html.escape(label)}</text>"
            f'<rect x="{left}" y="{y + 2}" width="{max(length, 1):.1f}" height="14" '
            f'class="{"ours" if ours else "theirs"}"/>'
            f'<text x="{left + length + 6:.1f}" y="{y + 13}">{value:g}</text>'
        )
    size = f'viewBox="0 0 {left + width + 70} {height}" width="{left + width + 70}"'
    return f'<svg class="bars" {size} role="img">{"".join(lines)}</svg>'


def _rows(name):
    with open(RESULTS / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _values(rows, column):
    return " / ".join(dict.fromkeys(row[column] for row in rows))


def _script(name):
    """First line of the docstring of the script that wrote a result, and the rest."""
    scripts = sorted((ROOT / "benchmarks").glob("*.py"), key=lambda p: -len(p.stem))
    fitting = next((p for p in scripts if name.startswith(p.stem)), None)
    if fitting is None:
        raise FileNotFoundError(f"no script in benchmarks/ is called as {name}.csv")
    text = ast.get_docstring(ast.parse(fitting.read_text(encoding="utf-8"))) or ""
    title, _, rest = text.partition("\n")
    return title, rest.strip("\n").rstrip()
