"""Pictures with what Keras and a file say of them, side by side."""

import html
from typing import Any

import numpy as np

from vit_keras import data
from vit_keras.heads import HEADS, probabilities
from vit_keras.mask_pictures import class_colours, depth_picture, overlay_mask
from vit_keras.preprocessing import IGNORED, fit_mask
from vit_keras.training.page import embedded

from .keras_reference import KerasReference
from .measure_file import MeasuredFile, run_of

SIDE = 200  # pixels of a picture, at most
NAMED = 3  # values or labels that are written


def predictions_html(file: MeasuredFile, keras: KerasReference) -> str:
    """Return pictures of the images that a file and Keras see most differently.

    Arguments:
        file: with scores.
        keras: of the same images.
    """
    rows = np.array(file.scores.differing if file.scores else (), int)
    subject, images = keras.subject, keras.images
    outputs, pixels = subject.outputs, images.pixels(rows)
    found = run_of(file.path)(pixels)
    expected = keras.outputs(pixels, found.shape)
    dense = HEADS[outputs.head].dense
    figures = []
    for i, row in enumerate(rows):
        pair = expected[i], found[i]
        if dense:
            truth = fit_mask(images.dataset.labels[row], images.size, images.reading)
            figures.append(_maps(pixels[i], truth, pair, outputs))
        else:
            truth = images.dataset.take(np.array([row]))
            figures.append(_captioned(pixels[i], truth, pair, outputs))
    kind = "maps" if dense else "small"
    legend = ""
    if outputs.segments:
        legend = _legend(images.dataset.classes)
    return f'{legend}<div class="pictures {kind}">{"".join(figures)}</div>'


def _captioned(pixels, truth, pair, outputs):
    """An image of one answer, with the answers."""
    names, head = truth.classes, outputs.head
    true = _of_truth(truth)
    said = [_said(values, names, head, outputs.activation) for values in pair]
    rows = (("true", true), ("Keras", said[0]), ("file", said[1]))
    lines = "".join(
        f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in rows
    )
    kind = ' class="differs"' if _top(said[0]) != _top(said[1]) else ""
    alt = html.escape(f"image of {true}")
    return (
        f'<figure{kind}><img alt="{alt}" src="{embedded(_rgb(pixels), SIDE)}">'
        f"<figcaption><dl>{lines}</dl></figcaption></figure>"
    )


def _top(said):
    """What is said, without how sure it is."""
    return said.rpartition(" ")[0] if said.endswith("%") else said


def _of_truth(one):
    label = one.labels[0]
    if np.ndim(label) == 0:
        return one.classes[int(label)]
    if one.head == "multi_label":
        return _names(one.classes, label > 0)
    return _numbers(label)


def _said(values, names, head, activation):
    if HEADS[head].probability is None:
        return _numbers(values)
    shares = probabilities(values[None], head, activation)[0]
    if head == "multi_label":
        return _names(names, shares >= 0.5)
    return f"{names[shares.argmax()]} {shares.max():.0%}"


def _names(names, chosen):
    picked = [name for name, there in zip(names, chosen, strict=True) if there]
    more = ["..."] if len(picked) > NAMED else []
    return ", ".join(picked[:NAMED] + more) or "none"


def _numbers(values):
    more = ["..."] if len(values) > NAMED else []
    return ", ".join([f"{v:.4g}" for v in values[:NAMED]] + more)


def _maps(pixels, truth, pair, outputs):
    """An image of an answer at each pixel: truth, Keras and file."""
    size = pixels.shape[:2]
    if outputs.segments:
        masks = [truth, *(_enlarged(values.argmax(-1), size) for values in pair)]
        drawn = [overlay_mask(_rgb(pixels), mask, opacity=0.65) for mask in masks]
        same = np.mean(masks[1] == masks[2])
        words = ("truth", "Keras", f"file: {same:.1%} as Keras")
    else:
        kinds = ("metric", outputs.depth_type or "metric")
        depths = [_enlarged(values[..., 0], size) for values in pair]
        drawn = [depth_picture(truth), *(depth_picture(d, kinds[1]) for d in depths)]
        words = ("truth", "Keras", "file")
    shown = "".join(
        f'<div><img alt="{html.escape(word)}" src="{embedded(picture, SIDE)}">'
        f"<span>{html.escape(word)}</span></div>"
        for word, picture in zip(words, drawn, strict=True)
    )
    return f"<figure>{shown}</figure>"


def _enlarged(values, size) -> Any:
    """Return a map at the size of the input, by the nearest value."""
    rows, columns = (
        np.arange(number) * length // number
        for number, length in zip(size, values.shape, strict=True)
    )
    return values[rows[:, None], columns]


def _rgb(pixels):
    return data.read_pixels(np.ascontiguousarray(pixels, "uint8"), 3)


def _legend(names):
    spans = "".join(
        f'<span><i style="background: rgb({" ".join(map(str, colour))})"></i>'
        f"{html.escape(name)}</span>"
        for name, colour in zip(names, class_colours(IGNORED), strict=False)
    )
    return f'<p class="legend swatches">{spans}</p>'
