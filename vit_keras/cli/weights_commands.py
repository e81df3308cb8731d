"""`vit-keras weights list`, `inspect` and `convert`."""

import pathlib
from typing import Annotated, Any

import typer

from .tables import escaped, new_table, print_table

app = typer.Typer(
    help="Weights from and for other libraries: list, inspect, convert.",
    no_args_is_help=True,
)

File = Annotated[
    str, typer.Argument(help="A file, a folder, or a name from `weights list`.")
]
Heads = Annotated[
    int | None,
    typer.Option(help="Number of attention heads, if the file does not tell."),
]
Size = Annotated[int | None, typer.Option(help="Input height and width in pixels.")]
Patch = Annotated[int | None, typer.Option(help="Patch height and width in pixels.")]
# Fields that `inspect` always prints, even with their default values.
ALWAYS = ("image_size", "patch_size", "num_layers", "hidden_size", "num_heads")


@app.command("list")
def list_published():
    """List the published files that can be downloaded by name."""
    from ..weights.published import PUBLISHED

    table = new_table(
        *("name", "preset", "image", "classes", "top-1", "licence"), wrap=("licence",)
    )
    for name, row in PUBLISHED.items():
        top1 = "" if row.top1 is None else f"{row.top1:.2f}"
        numbers = (row.image_size, f"{row.classes:,}", top1)
        table.add_row(*escaped(name, row.preset, *numbers, row.licence))
    print_table(table)


@app.command("inspect")
def inspect_checkpoint(
    file: File,
    num_heads: Heads = None,
    image_size: Size = None,
    patch_size: Patch = None,
):
    """Print the layout and the configuration of a checkpoint."""
    from ..config import ViTConfig
    from ..presets import PRESETS
    from ..weights.axes import shapes_of
    from ..weights.describe import describe
    from ..weights.entries import CheckpointError
    from ..weights.formats.keras_file import is_own
    from ..weights.load_plan import may_lack
    from ..weights.loader import find
    from ..weights.recognise import recognise
    from ..weights.told import assumption

    if is_own(file):
        raise CheckpointError(
            f"'{file}' holds weights only, of a model of this package: inspect the "
            ".keras file"
        )
    checkpoint = find(file)
    match = recognise(checkpoint)
    entries = checkpoint.entries.values()
    dtypes = sorted({str(entry.dtype) for entry in entries})
    total = sum(entry.nbytes for entry in entries)
    print(f"{file}: {len(entries)} arrays, {', '.join(dtypes)}, {total:,} bytes")
    print(f"layout: {match.layout.name} ({match.layout.title})")
    stated = given(num_heads, image_size, patch_size)
    config = describe(match, **stated)
    size = next((n for n, p in PRESETS.items() if same_size(p.config, config)), None)
    print(f"size: {size or 'none of the presets'}")
    for field, value in config.to_dict().items():
        if value != ViTConfig().to_dict()[field] or field in ALWAYS:
            print(f"  {field}: {shortened(value)}")
    if assumed := assumption(match.undecided, config, stated):
        print(f"  assumed: {assumed}")
    for path in shapes_of(config):
        if path not in match.weights and not may_lack(match, path):
            print(f"  missing: {path}")
    for text in (*match.unused, *match.misfits.values()):
        print(f"  not usable: {text}")


def shortened(value, most=5):
    """Return a value as text, of many labels the first."""
    if not isinstance(value, tuple) or len(value) <= most:
        return value
    return f"{', '.join(map(str, value[:most]))} and {len(value) - most} more"


def same_size(a, b):
    """Return whether two configurations have the same block and patch sizes."""
    fields = ("patch_size", "num_layers", "hidden_size", "num_heads", "mlp_dim")
    fields += ("distillation_token",)
    return all(getattr(a, field) == getattr(b, field) for field in fields)


def given(num_heads, image_size, patch_size) -> dict[str, Any]:
    """Return the options that were given."""
    options = {"num_heads": num_heads, "image_size": image_size}
    options["patch_size"] = patch_size
    return {name: value for name, value in options.items() if value is not None}


@app.command("convert")
def convert_checkpoint(
    file: File,
    out: Annotated[
        pathlib.Path,
        typer.Argument(help="A .keras file; with --layout, a file or a folder."),
    ],
    layout: Annotated[
        str | None,
        typer.Option(help="Layout to write: augreg, timm or huggingface."),
    ] = None,
    num_heads: Heads = None,
    image_size: Size = None,
    patch_size: Patch = None,
):
    """Convert a checkpoint to a Keras model, or to another library's layout."""
    from ..atomic import publishing
    from ..model import from_checkpoint
    from ..weights.entries import CheckpointError
    from ..weights.writer import save_checkpoint

    if layout is None and out.suffix != ".keras":
        raise CheckpointError(
            f"OUT must end in '.keras', or --layout be given. Received: {out}"
        )
    model = from_checkpoint(file, **given(num_heads, image_size, patch_size))
    if layout is None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with publishing(out) as work:
            model.save(work)
    else:
        save_checkpoint(model, out, layout)
    print(f"wrote {out}")
