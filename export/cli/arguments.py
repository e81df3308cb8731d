"""Arguments shared by several commands of `vit-export`, and their readers."""

import contextlib
import json
import pathlib
import time
from typing import Annotated

import rich.console
import typer

from vit_keras.heads import HEADS
from vit_keras.preprocessing import NORMALISATIONS

from ..progress import report_stages_to

IMAGES_HELP = (
    "A folder of images, a .npy file of pixels (N, H, W, C) in 0..255, or a data set "
    "as for training: digits, an .npz file, tfds:NAME"
)

Model = Annotated[pathlib.Path, typer.Argument(help="A .keras file.")]
Artefact = Annotated[
    pathlib.Path, typer.Argument(help="A .tflite file or a SavedModel directory.")
]
Labels = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="File with one class name per line. Default: labels.txt beside the model."
    ),
]
HeadName = Annotated[
    str | None,
    typer.Option(
        "--head",
        help="What the outputs mean, of a model that does not tell: "
        + "; ".join(f"{name}: {head.summary}" for name, head in HEADS.items()),
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(help=f"{IMAGES_HELP}. Required by int8 schemes."),
]
Evaluation = Annotated[
    str | None,
    typer.Option(
        help="Labelled images of your own, to see what model and file reach on them: a "
        "folder of class folders, or of images and masks, an .npz file, tfds:NAME."
    ),
]
Images = Annotated[str, typer.Option(help=f"{IMAGES_HELP}.")]
Limit = Annotated[int, typer.Option(min=1, help="Most images to use.")]
LabelledLimit = Annotated[
    int, typer.Option(min=0, help="Most images of --data to measure on; 0 is all.")
]
TimedRuns = Annotated[int, typer.Option(min=1, help="Timed runs per file.")]
Threads = Annotated[int, typer.Option(min=1, help="Number of LiteRT threads.")]
PreprocessingName = Annotated[
    str | None,
    typer.Option(
        help="What a model that does not carry its own was trained on: "
        f"{', '.join(NORMALISATIONS)}, or a JSON file with mean and std (of 0..1)."
    ),
]
Modules = Annotated[
    list[str] | None,
    typer.Option(
        "--module",
        help="Python module that defines the model's own layers; repeat it.",
    ),
]
OutputName = Annotated[
    str | None,
    typer.Option("--output", help="Output to take, of a model with several."),
]
OutputNames = Annotated[
    str | None,
    typer.Option(
        "--outputs",
        help="Several outputs of one file, as logits,attention; or all. Of a "
        "classifier attention, features, pooled; else those of a model with several.",
    ),
]

Soc = Annotated[
    str | None,
    typer.Option(
        help="Chips of target qualcomm, as SM8750,SM8450. Default: the target's."
    ),
]
Accelerator = Annotated[
    str | None,
    typer.Option(
        help="Ethos-U hardware, if not the target's own, such as ethos-u55-128."
    ),
]
SystemConfig = Annotated[
    str | None,
    typer.Option(help="System configuration of Vela's for an Ethos-U target."),
]
MemoryMode = Annotated[
    str | None, typer.Option(help="Memory mode of Vela's for an Ethos-U target.")
]
VelaIni = Annotated[
    pathlib.Path | None,
    typer.Option(help="File with your own system configurations and memory modes."),
]


def read_modules(names):
    """The classes in modules of the user's, or None."""
    if not names:
        return None
    from ..graph.custom_objects import classes_of_modules

    return classes_of_modules(names)


def read_outputs(names):
    """The names of several outputs, or "all", or None."""
    if names is None or names == "all":
        return names
    return tuple(name.strip() for name in names.split(","))


def read_labels(labels):
    """Read class names from a file; None stands for the file beside the model."""
    if labels is None:
        return None
    return labels.read_text(encoding="utf-8").splitlines()


def read_preprocessing(value):
    """The `Preprocessing` in a JSON file, or the name of one, or None."""
    if value is None or not value.endswith(".json"):
        return value
    from vit_keras import Preprocessing

    path = pathlib.Path(value)
    try:
        return Preprocessing(**json.loads(path.read_text()))
    except TypeError as error:
        raise ValueError(
            f"'{path}' must be JSON with the fields of Preprocessing: {error}"
        ) from error


@contextlib.contextmanager
def show_stages(text):
    """Show the current stage and the duration of finished ones on stderr: a spinner on
    a terminal, plain lines elsewhere."""
    console, done = rich.console.Console(stderr=True, highlight=False), Stages()
    with console.status(text) as spinner:

        def begin(stage):
            if (line := done.end()) is not None:
                console.print(line, style="dim")
            done.begin(stage)
            spinner.update(f"{text}: {stage}")

        with report_stages_to(begin):
            yield spinner
        if (line := done.end()) is not None:
            console.print(line, style="dim")


class Stages:
    """The running stage and its start time."""

    def __init__(self):
        self.name, self.since = None, 0.0

    def begin(self, name):
        """Record the start of a stage."""
        self.name, self.since = name, time.monotonic()

    def end(self) -> str | None:
        """Return a line about the finished stage, or None if there was none."""
        if self.name is None:
            return None
        return f"{time.monotonic() - self.since:6.1f} s  {self.name}"


def tool_options(soc, accelerator, system_config, memory_mode, vela_ini):
    """The `options` of `export.check` that were given, or None."""
    given = {
        "socs": None if soc is None else tuple(soc.split(",")),
        "accelerator": accelerator,
        "system_config": system_config,
        "memory_mode": memory_mode,
        "vela_ini": vela_ini,
    }
    return {key: value for key, value in given.items() if value is not None} or None
