"""The files of a finished run."""

import contextlib
import pathlib
import shutil
from collections.abc import Mapping

import keras

from ..atomic import publishing
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
    index = process_index()[0]
    best, final = out / "best.keras", out / "model.keras"
    with contextlib.ExitStack() as renames:  # the last that enters is the first
        _save(model, final, renames)
        for name, text in texts.items():
            _write(out / name, text, renames)
        if (out / BEST).is_file():
            last_weights = model.get_weights()
            model.load_weights(out / BEST)
            _save(model, best, renames)
            model.set_weights(last_weights)
        elif index == 0:
            best.unlink(missing_ok=True)  # of a run that is overwritten
        if index == 0:
            final.unlink(missing_ok=True)
    barrier()  # all have read, and all is written
    if index == 0:
        (out / BEST).unlink(missing_ok=True)
        shutil.rmtree(out / FOLDER, ignore_errors=True)
    barrier()


def _save(model, path, renames):
    if process_index()[0]:
        return
    compiled = model.compiled
    model.compiled = False  # the optimizer's class is unknown where nothing is trained
    try:
        work = renames.enter_context(publishing(path))
        model.save(work, include_optimizer=False)
    finally:
        model.compiled = compiled


def _write(path, text, renames):
    if process_index()[0]:
        return
    work = renames.enter_context(publishing(path))
    work.write_text(text, encoding="utf-8")
