"""The folder of a report, for one process at a time."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from vit_keras.atomic import sole_writer


@contextlib.contextmanager
def report_folder(out: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield the folder of a report, without the unfinished files of a killed run; two
    runs would give each other's files what was found about their own.

    Arguments:
        out: the folder, made if it does not exist.

    Raises:
        OSError: it cannot be written to, or another process writes a report there.
    """
    folder = pathlib.Path(out)
    with sole_writer(folder, "each report"):
        yield folder
