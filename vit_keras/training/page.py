"""`RUN/report.html`: curves of a run, and its model on the held-out images."""

import base64
import html
import io
import pathlib
import string

import numpy as np
from PIL import Image

from ..config import ViTConfig
from ..data import Dataset, read_pixels, targets
from ..heads import HEADS, probabilities
from .curves import draw_curves
from .metrics import average_precision, measure

PICTURES = 24  # largest mistakes that are shown
MOST_NAMES = 40  # rows of a confusion matrix; with more classes the most confused
SIDE = 160  # of a picture, in pixels


def make_page(
    config: ViTConfig,
    history: list[dict],
    validation: Dataset | None,
    outputs: np.ndarray | None = None,
    sections: list[str] | None = None,
) -> str:
    """Describe a finished run as one HTML page without other files.

    Arguments:
        config: of the model.
        history: a row of metrics for each checkpoint interval, or rate of a probe.
        validation: held-out images, from `data.prepare`, or None.
        outputs: (N, C), of the model for these images.
        sections: what is said of these images instead, as HTML.

    Returns:
        The page: curves; metrics on the held-out images; a table by class, label or
        value; for classes the confusion matrix; and the largest mistakes as pictures.
    """
    metric = HEADS[config.head].metric
    parts = [html_section("Curves", draw_curves(history, metric))]
    if sections is not None:
        parts += sections
    elif validation is None or outputs is None:
        parts.append("<p>No images were held out, so nothing else was measured.</p>")
    else:
        parts += _held_out(config, validation, outputs)
    template = pathlib.Path(__file__).with_name("page.html").read_text("utf-8")
    return string.Template(template).substitute(title="Run", body="\n".join(parts))


def _held_out(config, dataset, outputs):
    head, activation = config.head, config.activation
    truth = targets(dataset)
    found = measure([(outputs, truth)], head, activation)
    words = ", ".join(f"{n.replace('_', ' ')} {v:.4f}" for n, v in found.items())
    yield f"<p>{len(dataset)} held-out images: {words}.</p>"
    if HEADS[head].probability is None:
        yield html_section("Values", _value_table(dataset.classes, outputs, truth))
        wrong = np.abs(outputs - truth).max(-1)
        captions = [
            _pair(_numbers(t), _numbers(o)) for t, o in zip(truth, outputs, strict=True)
        ]
        yield html_section("Largest errors", _pictures(dataset, wrong, captions))
        return
    shares = probabilities(outputs, head, activation)
    if head == "multi_label":
        yield html_section("Labels", _label_table(dataset.classes, shares, truth))
        wrong = np.abs(shares - truth).max(-1) * ((shares >= 0.5) != truth).any(-1)
        captions = [
            _pair(_named(dataset.classes, t), _named(dataset.classes, s >= 0.5))
            for t, s in zip(truth, shares, strict=True)
        ]
    else:
        chosen, labels = shares.argmax(-1), np.asarray(dataset.labels)
        matrix = np.zeros((len(dataset.classes),) * 2, int)
        np.add.at(matrix, (labels, chosen), 1)
        yield html_section("Classes", _class_table(dataset.classes, matrix))
        yield html_section("Confusion matrix", _confusion(dataset.classes, matrix))
        wrong = shares.max(-1) * (chosen != labels)
        captions = [
            _pair(dataset.classes[t], f"{dataset.classes[c]} {s[c]:.0%}")
            for t, c, s in zip(labels, chosen, shares, strict=True)
        ]
    yield html_section("Surest mistakes", _pictures(dataset, wrong, captions))


def html_section(title: str, content: str) -> str:
    """Return content under a title."""
    return f"<h2>{title}</h2>\n{content}"


def html_table(columns, rows, kind="") -> str:
    """Return a table; cells are texts or numbers."""
    cells = ["".join(f"<th>{html.escape(str(name))}</th>" for name in columns)]
    cells += ["".join(f"<td>{html.escape(str(v))}</td>" for v in row) for row in rows]
    rows_of = "\n".join(f"<tr>{row}</tr>" for row in cells)
    return f'<div class="wide"><table class="{kind}">{rows_of}</table></div>'


def _class_table(names, matrix):
    right, true, said = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    rows = [
        (name, n, share_of(r, n), share_of(r, s))
        for name, r, n, s in zip(names, right, true, said, strict=True)
    ]
    return html_table(("class", "images", "recall", "precision"), rows)


def _label_table(names, shares, truth):
    rows = []
    for name, p, t in zip(names, shares.T, truth.T, strict=True):
        right = ((p >= 0.5) & (t > 0)).sum()
        precision = f"{average_precision(p, t):.3f}" if t.any() else "-"
        shown = share_of(right, t.sum()), share_of(right, (p >= 0.5).sum())
        rows.append((name, int(t.sum()), precision, *shown))
    columns = ("label", "images", "average precision", "recall", "precision")
    return html_table(columns, rows)


def _value_table(names, outputs, truth):
    error = outputs - truth
    rows = [
        (name, f"{t.min():.4g} to {t.max():.4g}", f"{np.abs(e).mean():.4g}")
        for name, t, e in zip(names, truth.T, error.T, strict=True)
    ]
    return html_table(("value", "range", "mean absolute error"), rows)


def _confusion(names, matrix):
    """Rows are the true classes, columns the predicted ones."""
    wrong = matrix - np.diag(matrix.diagonal())
    shown = np.arange(len(names))
    if len(names) > MOST_NAMES:
        order = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")
        shown = np.sort(order[:MOST_NAMES])
    head = "".join(f"<th>{html.escape(names[i])}</th>" for i in shown)
    rows = [f"<tr><th></th>{head}</tr>"]
    for i in shown:
        cells = []
        for j in shown:
            part = matrix[i, j] / max(matrix[i].sum(), 1)
            colour = "51 102 204" if i == j else "204 102 0"
            style = f'style="background: rgb({colour} / {part:.0%})"'
            cells.append(f"<td {style}>{matrix[i, j] or ''}</td>")
        rows.append(f"<tr><th>{html.escape(names[i])}</th>{''.join(cells)}</tr>")
    note = "Rows are true classes, columns predicted ones."
    if len(shown) < len(names):
        note += f" The {len(shown)} most confused of {len(names)} classes."
    table = "\n".join(rows)
    return (
        f'<p>{note}</p><div class="wide"><table class="confusion">{table}</table></div>'
    )


def _pictures(dataset, wrong, captions):
    """Return the images of the largest `wrong`, those above 0."""
    order = [i for i in np.argsort(-wrong, kind="stable")[:PICTURES] if wrong[i] > 0]
    if not order:
        return "<p>None.</p>"
    sources = [embedded(read_pixels(dataset.images[i], 3), SIDE) for i in order]
    figures = [
        f'<figure><img alt="" src="{picture}"><figcaption>{captions[i]}</figcaption>'
        "</figure>"
        for i, picture in zip(order, sources, strict=True)
    ]
    return f'<div class="pictures">{"".join(figures)}</div>'


def embedded(pixels: np.ndarray, side: int) -> str:
    """Return pixels (H, W, 3) as the address of a JPEG of at most `side` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=85)
        text = base64.b64encode(file.getvalue()).decode()
    return f"data:image/jpeg;base64,{text}"


def _pair(true, said):
    return f"{html.escape(true)} → <b>{html.escape(said)}</b>"


def _named(names, chosen):
    picked = [n for n, c in zip(names, chosen, strict=True) if c]
    return ", ".join(picked) or "none"


def _numbers(values):
    return ", ".join(f"{v:.4g}" for v in values)


def share_of(part, whole) -> str:
    """Return a part of a whole in percent; "-" of nothing."""
    return f"{part / whole:.1%}" if whole else "-"
