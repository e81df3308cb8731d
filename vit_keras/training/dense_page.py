"""The part of `RUN/report.html` on outputs at each pixel."""

import html

import numpy as np

from ..data import Dataset
from ..heads import HEADS
from ..mask_pictures import class_colours
from .dense_evaluation import MapScores, compared
from .page import embedded, html_section, html_table, share_of

PAIRS = 6  # images that are shown
PAIR_SIDE = 640  # of truth and prediction side by side, in pixels


def map_sections(model, validation: Dataset, found: MapScores) -> list[str]:
    """Describe a model on held-out images as parts of a page.

    Arguments:
        model: of a head with maps.
        validation: held-out images, from `data.prepare`.
        found: from `score_maps`, for these.

    Returns:
        Metrics, the IoU of each class, and the worst images with truth and prediction.
    """
    kind, metrics = HEADS[model.config.head], found.metrics()
    words = ", ".join(f"{n.replace('_', ' ')} {v:.4f}" for n, v in metrics.items())
    parts = [f"<p>{len(validation)} held-out images: {words}.</p>"]
    if kind.probability is not None:
        parts.append(html_section("Classes", _classes(validation.classes, found.score)))
        parts.append(_legend(validation.classes))
    figures = []
    for index in found.worst(PAIRS):
        picture = embedded(compared(model, validation, index), PAIR_SIDE)
        score = abs(found.of_images[index])
        caption = f"mean IoU {score:.3f}" if kind.probability else f"error {score:.3f}"
        figures.append(
            f'<figure><img alt="" src="{picture}"><figcaption>{caption}</figcaption>'
            "</figure>"
        )
    order = "truth, prediction" if kind.probability else "image, truth, prediction"
    shown = f'<p>{order}</p><div class="pictures pairs">{"".join(figures)}</div>'
    parts.append(html_section("Worst images", shown if figures else "<p>None.</p>"))
    return parts


def _classes(names, score):
    matrix, pixels = score.matrix, max(score.matrix.sum(), 1)
    right, true, said = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    rows = [
        (name, share_of(t, pixels), _number(i), share_of(r, t), share_of(r, s))
        for name, i, r, t, s in zip(names, score.iou(), right, true, said, strict=True)
    ]
    return html_table(("class", "pixels", "IoU", "recall", "precision"), rows)


def _number(value):
    return "-" if np.isnan(value) else f"{value:.3f}"


def _legend(names):
    spans = []
    for name, colour in zip(names, class_colours(), strict=False):
        swatch = f'<i style="background: rgb({" ".join(map(str, colour))})"></i>'
        spans.append(f"<span>{swatch} {html.escape(name)}</span>")
    return f'<p class="legend">{" ".join(spans)}</p>'
