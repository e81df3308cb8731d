"""`web_page`: a folder with a page that runs `.tflite` files in a browser."""

import collections
import json
import os
import pathlib
import shutil
from collections.abc import Sequence

from vit_keras.atomic import publishing

from .file_description import describe_file
from .runtime import COPIED, builds, copy_runtime, import_map

STATIC = pathlib.Path(__file__).with_name("static")
CONTENTS = "page.json"  # what the page reads first
MODELS = "models"
MAP = "{{import map}}"  # in index.html


def web_page(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    vendor: str | os.PathLike[str] | None = None,
) -> pathlib.Path:
    """Write a static page that runs files on pictures, in a browser, by LiteRT.js.

    Arguments:
        files: a `.tflite` file or several, from which the page's user chooses, such as
            `to_tflite` writes with target="web".
        out: folder to write, whole or not at all: new, empty, or with an earlier page,
            which is replaced.
        vendor: where a copy of LiteRT.js comes from, which makes the page work without
            another server: "npm", or a `node_modules` folder that has @litertjs/core.
            None has browsers load it from a CDN. Both are checked by their hashes.

    Returns:
        The folder.

    Raises:
        ValueError: LiteRT.js does not run a file, or it does not say what its input is;
            two files have the same name; `vendor` has another version.
        FileNotFoundError: a file, or the folder above `out`, does not exist.
        FileExistsError: `out` holds something else.
        OSError: `out` cannot be written to, or npm does not answer.
        MissingDependency: the extra "export" is not installed.
    """
    paths = [files] if isinstance(files, str | os.PathLike) else list(files)
    paths, out = [pathlib.Path(path) for path in paths], pathlib.Path(out)
    _check_names(paths)
    _check_folder(out)
    contents = {
        "runtime": builds(copied=vendor is not None),
        "models": [describe_file(path) for path in paths],
    }
    with publishing(out, folder=True) as work:
        shutil.copytree(STATIC, work)
        (work / MODELS).mkdir()
        for path in paths:
            shutil.copyfile(path, work / MODELS / path.name)
        if vendor is not None:
            copy_runtime(vendor, work)
        addresses = json.dumps(import_map(copied=vendor is not None), indent=2)
        index = work / "index.html"
        text = index.read_text(encoding="utf-8").replace(MAP, addresses)
        index.write_text(text, encoding="utf-8")
        text = json.dumps(contents, indent=1, ensure_ascii=False, allow_nan=False)
        (work / CONTENTS).write_text(f"{text}\n", encoding="utf-8")
    return out


def _check_names(paths):
    if not paths:
        raise ValueError("`files` must be at least one .tflite file. Received: none")
    counts = collections.Counter(path.name for path in paths)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"`files` must differ in their names. Received twice: {twice}")


def _check_folder(out):
    """Refuse to replace a folder that has anything but a page."""
    if not out.is_dir():
        return
    found = {path.name for path in out.iterdir()}
    own = {CONTENTS, MODELS, COPIED, *(path.name for path in STATIC.iterdir())}
    others = sorted(found if CONTENTS not in found else found - own)
    if others:
        raise FileExistsError(
            f"`out` must be a new or empty folder, or an earlier page. '{out}' has "
            f"other files, which would be lost: {others[0]!r}"
        )
