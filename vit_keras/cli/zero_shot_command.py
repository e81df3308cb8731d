"""`vit-keras zero-shot`: a classifier of a CLIP or SigLIP and a list of names."""

import pathlib
from typing import Annotated, Any

import typer

from ..text_files import read_text
from .options import read_size


def zero_shot_command(
    weights: Annotated[
        pathlib.Path,
        typer.Option(
            help="Folder of Hugging Face with a CLIP or SigLIP: config.json, weights, "
            "tokenizer."
        ),
    ],
    labels: Annotated[
        pathlib.Path, typer.Option(help="File with one class name per line.")
    ],
    out: Annotated[pathlib.Path, typer.Option(help="The .keras file to write.")],
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="Text with {} for the class name; repeatable, their embeddings are "
            "averaged. Default: 'a photo of a {}'."
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Input height and width in pixels, a number such as 224, or two such "
            "as 252x336; positions are resized. Default: the file's."
        ),
    ] = None,
):
    """Make a classifier for any names, without training, of a CLIP or SigLIP.

    The text model embeds the names once; the result needs the image model alone.
    """
    from ..atomic import publishing
    from ..labels import check_labels
    from ..text_tower import TEMPLATES, check_templates, text_embeddings

    if out.suffix != ".keras":
        raise ValueError(f"`--out` must end in '.keras'. Received: {out}")
    names = check_labels(read_text(labels).splitlines())
    templates = check_templates(template or TEMPLATES)
    sizes: dict[str, Any] = {} if image_size is None else {"image_size": image_size}
    sizes = {name: read_size(text) for name, text in sizes.items()}
    text = text_embeddings(weights, names, templates)

    from ..model import from_checkpoint
    from ..zero_shot_model import zero_shot

    tower = from_checkpoint(weights, include_top=False, **sizes)
    model = zero_shot(tower, text.embeddings, names, text.logit_scale, text.logit_bias)
    out.parent.mkdir(parents=True, exist_ok=True)
    with publishing(out) as work:
        model.save(work)
    print(f"wrote {out}: {text.kind}, labels {len(names)}, templates {len(templates)}")
    bias = "" if text.logit_bias is None else f", logit bias {text.logit_bias:.4g}"
    print(f"logit scale {text.logit_scale:.4g}{bias}")
    print(f"next: vit-export tflite {out} {out.with_suffix('.tflite')}")
