"""The files of a finished run."""

import contextlib
import pathlib
import shutil
from collections.abc import Mapping

import keras

from ..atomic import publish_together, workspace
from .checkpoint import FOLDER
from .fitting import BEST
from .processes import barrier, process_index


def write_run(out: pathlib.Path, model: keras.Model, texts: Mapping[str, str]) -> None:
    """Write the models of a run and its texts, and remove its checkpoints.

    All is written before anything gets its name. `model.keras` is the last: its
    presence marks a finished run. That of a run which is replaced goes before the
    texts are others', so that whoever finds it finds its own labels beside it.

    Arguments:
        out: folder of the run; `BEST` in it has the best weights, if there are any.
        model: with the last weights.
        texts: {file name: content}.
    """
    writes = process_index()[0] == 0
    with contextlib.ExitStack() as stack:
        works = {}

        def part(name):
            works[out / name] = stack.enter_context(workspace(out / name))
            return works[out / name]

        if writes:
            for name, text in texts.items():
                part(name).write_text(text, encoding="utf-8")
        if (out / BEST).is_file():
            last_weights = model.get_weights()
            model.load_weights(out / BEST)
            if writes:
                _save(model, part("best.keras"))
            model.set_weights(last_weights)
        elif writes:
            (out / "best.keras").unlink(missing_ok=True)  # of a run that is overwritten
        if writes:
            _save(model, part("model.keras"))
            publish_together(works)
    barrier()  # all have read, and all is written
    if writes:
        (out / BEST).unlink(missing_ok=True)
        shutil.rmtree(out / FOLDER, ignore_errors=True)
    barrier()


def _save(model, path):
    compiled = model.compiled
    model.compiled = False  # the optimizer's class is unknown where nothing is trained
    try:
        model.save(path, include_optimizer=False)
    finally:
        model.compiled = compiled
