"""`vit-keras attention`: pictures of what a classifier looks at."""

import math
import pathlib
from typing import Annotated, Any

import typer

from .run_commands import Run

SHORTEST = 480  # pixels: a smaller photograph is enlarged by an integer, to be seen
TITLE = 56  # pixels above it


def attention_command(
    run: Run,
    files: Annotated[list[pathlib.Path], typer.Argument(help="Image files.")],
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the pictures.")],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="'relevance', 'rollout' or 'attention'; repeatable. "
            "Default: relevance."
        ),
    ] = None,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Class of the relevance, a name or a number. Default: the predicted.",
        ),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(help="Block of the attention, -1 for the last. Default: all."),
    ] = None,
    head: Annotated[
        int | None, typer.Option(help="Head of the attention. Default: all.")
    ] = None,
):
    """Draw what a classifier looks at over photographs, as OUT/NAME.METHOD.png."""
    import numpy as np

    from .. import preprocessing as pp
    from ..atomic import publishing
    from ..attention_maps import METHODS, attention_map
    from ..heads import HEADS
    from ..model_file import open_classifier
    from .answers import check_names_differ, describe_outputs

    methods = list(dict.fromkeys(method or ["relevance"]))
    check_names_differ(files)
    new_figure = _figure_maker()
    model, labels = open_classifier(run)
    config = model.config
    # One output for two classes is that of the second.
    named = labels[1:] if labels and HEADS[config.head].binary else labels
    named = named or [str(i) for i in range(model.output_shape[-1])]
    index = None if class_ is None else _class_index(class_, named)
    given: dict[str, Any] = {"class_index": index, "layer": layer, "head": head}
    given = {name: value for name, value in given.items() if value is not None}
    # What belongs to none of the methods is refused by the first of them.
    unowned = set(given).difference(*(METHODS.get(name, ()) for name in methods))
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        photo = pp.read_image(file, channels=config.channels)
        pixels = pp.fit(photo, config.image_size, config.preprocessing)
        shown = seen_part(photo, config.image_size, config.preprocessing)
        images = pp.normalize(pixels[None], config.preprocessing)
        outputs = np.asarray(model.predict_on_batch(images))
        best = int(outputs[0].argmax())
        for name in methods:
            own = unowned.union(METHODS.get(name, ()))
            options = {key: given[key] for key in given if key in own}
            maps = attention_map(model, images, name, per_patch=True, **options)
            title = f"{describe_outputs(outputs[0], labels, config, top=1)}\n{name}"
            if name == "relevance":
                title += f" for {named[options.pop('class_index', best)]}"
            title += "".join(f", {key} {value}" for key, value in options.items())
            figure = new_figure(shown, maps[0], title)
            path = out / f"{file.stem}.{name}.png"
            with publishing(path) as work:
                figure.savefig(work, format="png")
            print(f"wrote {path}")


def seen_part(photo: Any, image_size: Any, preprocessing: Any) -> Any:
    """Return what the model sees of a photograph, at the photograph's resolution.

    Arguments:
        photo: uint8 (H, W, C).
        image_size: (height, width) of the model.
        preprocessing: with "contain" the padding is seen, too.

    Returns:
        uint8 (h, w, C), of the input's shape but with "stretch".
    """
    from .. import preprocessing as pp

    size = photo.shape[:2]
    if preprocessing.resize == "contain":  # with the padding, which gets attention, too
        larger = max(own / side for own, side in zip(size, image_size, strict=True))
        whole = [max(round(side * larger), 1) for side in image_size]
        return pp.fit(photo, whole, preprocessing)
    box = pp.visible_box(size, image_size, preprocessing)
    left, top = map(math.floor, box[:2])
    right, bottom = map(math.ceil, box[2:])
    return photo[top:bottom, left:right]


def _class_index(name, labels):
    """Return the number of a class, given by its name or number."""
    if name in labels:
        return labels.index(name)
    if name.isdecimal() and int(name) < len(labels):
        return int(name)
    shown = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
    raise ValueError(
        f"`--class` must be one of {shown}, or a number below {len(labels)}. "
        f"Received: {name}"
    )


def _figure_maker():
    """Return a function from (photograph, map, title) to a matplotlib figure."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f'pictures need {error.name}: pip install "vit-keras-edge[plot]"'
        ) from error
    import numpy as np

    from ..attention_maps import enlarge

    def new_figure(photo, patches, title):
        """At the photograph's resolution: one pixel of the figure is one of it."""
        height, width = photo.shape[:2]
        times = max(1, -(-SHORTEST // min(height, width)))
        height, width = height * times, width * times
        dpi = 100 * max(1.0, min(height, width) / SHORTEST)  # text grows with it
        above = round(TITLE * dpi / 100)
        figure = Figure((width / dpi, (height + above) / dpi), dpi=dpi)
        axes = figure.add_axes((0, 0, 1, height / (height + above)))
        axes.set_axis_off()
        span = (0, width, height, 0)
        grey = photo.shape[-1] == 1
        rgb = np.repeat(photo, 3, axis=-1) if grey else photo
        axes.imshow(rgb, extent=span, interpolation="nearest")
        low, high = patches.min(), patches.max()
        scaled = (patches - low) / (high - low or 1.0)
        heat = enlarge(scaled[None], (height, width))[0]
        axes.imshow(heat, "turbo", extent=span, alpha=0.7 * heat, vmin=0, vmax=1)
        axes.set_title(title, fontsize=11)
        return figure

    return new_figure
