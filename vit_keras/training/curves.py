"""Curves of a run as SVG."""

import math

WIDTH, HEIGHT, MARGIN = 480, 240, 40
# Name in the legend, prefix in the history.
SERIES = (("train", ""), ("held", "val_"))


def draw_curves(history: list[dict], metric: str) -> str:
    """Draw the loss and a metric over the steps, or over the rates of a probe.

    Arguments:
        history: rows with `loss`, `step` or `learning_rate`, and others.
        metric: name of the metric; those of held-out images begin with "val_".

    Returns:
        SVG elements, one for each quantity that was measured; values that are not
        finite are left out.
    """
    over = "step" if history and "step" in history[0] else "learning_rate"
    drawn = [
        _chart(history, over, name)
        for name in ("loss", metric)
        if any(prefix + name in row for row in history for _, prefix in SERIES)
    ]
    return f'<div class="curves">{"".join(drawn)}</div>'


def _chart(history, over, name):
    # NaN, as the precision of labels that no image has, has no place.
    lines = {
        kind: [
            (i, float(row[prefix + name]))
            for i, row in enumerate(history)
            if math.isfinite(float(row.get(prefix + name, math.nan)))
        ]
        for kind, prefix in SERIES
    }
    values = [value for line in lines.values() for _, value in line]
    if not values:
        return ""
    low, high = min(values), max(values)
    shown = []
    for (kind, prefix), line in zip(SERIES, lines.values(), strict=True):
        if not line:
            continue
        points = []
        for i, value in line:
            x = MARGIN + (WIDTH - 2 * MARGIN) * (i / max(len(history) - 1, 1))
            part = (value - low) / (high - low) if high > low else 0.5
            points.append((x, HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * part))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        shown.append(f'<polyline class="{kind}" points="{path}"/>')
        x, y = points[-1]
        shown.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
        label = f"{prefix}{name} {line[-1][1]:.4g}".replace("_", " ")
        place = MARGIN / 2 if kind == "train" else MARGIN - 6
        shown.append(f'<text class="{kind}" x="{MARGIN}" y="{place}">{label}</text>')
    ends = [f"{float(row[over]):g}" for row in (history[0], history[-1])]
    title = over.replace("_", " ")
    bottom = HEIGHT - MARGIN / 3
    shown += [
        f'<text x="2" y="{MARGIN}">{high:.3g}</text>',
        f'<text x="2" y="{HEIGHT - MARGIN}">{low:.3g}</text>',
        f'<text x="{MARGIN}" y="{bottom}">{title} {ends[0]}</text>',
        f'<text x="{WIDTH - MARGIN}" y="{bottom}" text-anchor="end">{ends[1]}</text>',
    ]
    box = f"0 0 {WIDTH} {HEIGHT}"
    return f'<svg viewBox="{box}" role="img">{"".join(shown)}</svg>'
