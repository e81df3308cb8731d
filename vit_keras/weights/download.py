"""Download of published files to a cache folder: once, resumable and verified.

Beside `name.npz` the folder has `name.npz.sha256`, what `sha256sum --check` reads: the
hash of the file as it came, which it must have at each later use, since not every
publisher tells one. There may be `name.npz.part`, the bytes received so far, and
`name.npz.part.tag`, the version of the file (its ETag or date). Only a complete and
verified file gets its final name.

One process downloads into a folder at a time: it holds an advisory lock on `.lock`,
which the operating system frees however the process ends. The others wait, and then
find the file.
"""

import base64
import contextlib
import difflib
import os
import pathlib
import sys
import time
import urllib.parse
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..atomic import LOCK, lock, publishing
from .published import PUBLISHED, Published

CACHE_VARIABLE = "VIT_KERAS_CACHE"
TRIES = 3
PAUSE = 1.0  # seconds before the second try, twice as long before the third
TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two chunks of data
PIECE = 1 << 16  # bytes per chunk


class RemoteFile(Protocol):
    """What a table tells of a file: a `Published`, or another with these fields."""

    @property
    def url(self) -> str: ...
    @property
    def licence(self) -> str: ...
    @property
    def paper(self) -> str: ...
    @property
    def sha256(self) -> str | None: ...


class DownloadError(OSError):
    """A published file cannot be downloaded; the message says what to do instead."""


def fetch(
    name: str,
    *,
    cache: str | os.PathLike[str] | None = None,
    table: Mapping[str, RemoteFile] = PUBLISHED,
) -> pathlib.Path:
    """Return the path of a published file, downloaded if it is not in the cache.

    Arguments:
        name: a name in the table.
        cache: folder for the files. None means the environment variable
            VIT_KERAS_CACHE, or else the user's cache folder of the system.
        table: the published files.

    Returns:
        The path of the file, whose hash is verified.

    Raises:
        ValueError: unknown name; the message lists the closest ones.
        ImportError: the packages for downloads are missing.
        DownloadError: no connection, a refusal, wrong content, or a cache folder that
            cannot be written.
    """
    if name not in table:
        close = difflib.get_close_matches(str(name), table, n=5, cutoff=0.4)
        raise ValueError(
            "`name` must be a published file, such as "
            f"{', '.join(close or list(table)[:5])}. Received: name={name!r}"
        )
    try:
        import pooch
        import requests  # noqa: F401, whether it is there
    except ImportError as error:
        raise ImportError(
            f'downloads need {error.name}: pip install "vit-keras-edge[download]"'
        ) from error

    row = table[name]
    chosen = cache or os.environ.get(CACHE_VARIABLE)
    folder = chosen or pooch.os_cache("vit_keras") / "weights"
    folder = pathlib.Path(folder).expanduser().absolute()
    suffix = pathlib.PurePosixPath(urllib.parse.urlsplit(row.url).path).suffix
    path = folder / f"{name}{suffix}"  # file names in URLs are not unique
    try:
        if path.is_file() and not _wrong_hash(path, _recorded(path, row.sha256)):
            return path
        print(f"{name}: {row.licence}, arXiv {row.paper}, {row.url}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder):
            if path.is_file() and _wrong_hash(path, _recorded(path, row.sha256)):
                print(f"{path} is not the published file: again", file=sys.stderr)
                path.unlink()
                _record_of(path).unlink(missing_ok=True)
            if not path.is_file():
                _Downloader(name, row, path).run()
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot keep {name} in the cache folder {folder}: "
            f"{error.strerror or error}. Make room or name another folder in "
            f"{CACHE_VARIABLE}"
        ) from error
    return path


def _record_of(path) -> pathlib.Path:
    return path.with_name(f"{path.name}.sha256")


def _record(path, received) -> None:
    """Keep the hash of what was received beside the path that it will have."""
    import pooch

    with publishing(_record_of(path)) as part:
        part.write_text(f"{pooch.file_hash(str(received))}  {path.name}\n", "utf-8")


def _recorded(path, published: str | None) -> str | None:
    """The hash that a file in the cache must have: what is published, or what was
    recorded when it came, if that is the same and says more."""
    kept = _record_of(path)
    known = kept.read_text(encoding="utf-8").split()[:1] if kept.exists() else []
    agrees = known and known[0].startswith((published or "").lower())
    return known[0] if agrees else published


class _Downloader:
    """Downloads, verifies, and renames to the final name."""

    def __init__(self, name: str, row: RemoteFile, path: pathlib.Path):
        self.name, self.row, self.path = name, row, path
        self.part = path.with_name(f"{path.name}.part")
        self.tag = path.with_name(f"{path.name}.part.tag")

    def run(self):
        md5 = self._download()
        expected = self.row.sha256 or (md5 and f"md5:{md5}")
        received = _wrong_hash(self.part, expected)
        if received:
            self._forget()
            raise DownloadError(
                f"{self.name} has the wrong hash and was removed: expected {expected}, "
                f"received {received} from {self.row.url}"
            )
        # First: once the file has its name, nothing is left to be done.
        _record(self.path, self.part)
        os.replace(self.part, self.path)
        self._forget()

    def _forget(self):
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)

    def _download(self):
        """Complete `.part` in several tries; return the MD5 that the server sends."""
        import requests

        problem = None
        for number in range(TRIES):
            time.sleep(PAUSE * number)
            try:
                return self._try_once()
            except requests.RequestException as error:
                problem = error
                status = getattr(error.response, "status_code", 500)
                if status == 416:  # the part is longer than the file: start over
                    self._forget()
                elif status < 500:
                    break
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())
        other = (
            ", or pass the file as weights=" if isinstance(self.row, Published) else ""
        )
        raise DownloadError(
            f"cannot download {self.name} ({reason}). Fetch {self.row.url} by hand "
            f"and save it as {self.path} ({CACHE_VARIABLE} names another folder){other}"
        ) from problem

    def _try_once(self):
        """Request the missing bytes; the server may send the whole file instead."""
        import requests

        start = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Accept-Encoding": "identity"}  # lengths without compression
        if start and self.tag.exists():
            # Ask for the rest of the same version, or all of a newer one.
            tag = self.tag.read_text(encoding="utf-8")
            headers |= {"Range": f"bytes={start}-", "If-Range": tag}
        with requests.get(
            self.row.url, headers=headers, stream=True, timeout=TIMEOUT
        ) as response:
            response.raise_for_status()
            if response.status_code != 206:
                start = 0
                self._begin(response.headers)
            elif not response.headers.get("Content-Range", "").startswith(
                f"bytes {start}-"
            ):
                self._forget()
                raise requests.ConnectionError("the server sent another range")
            length = response.headers.get("Content-Length")
            total = start + int(length) if length else None
            with open(self.part, "ab") as file, _bar() as bar:
                task = bar.add_task(self.name, total=total, completed=start)
                for piece in response.iter_content(PIECE):
                    file.write(piece)
                    bar.advance(task, len(piece))
            received = self.part.stat().st_size
            if total is not None and received != total:
                raise requests.ConnectionError(f"{received} of {total} bytes came")
            return _md5_of(response.headers)

    def _begin(self, headers):
        """Start an empty part, then store its version, see `_try_once`."""
        self.part.write_bytes(b"")
        etag = headers.get("ETag", "")
        # A weak ETag (W/...) does not guarantee identical bytes.
        tag = headers.get("Last-Modified") if etag[:2] in ("", "W/") else etag
        if tag:
            self.tag.write_text(tag, encoding="utf-8")
        else:
            self.tag.unlink(missing_ok=True)


def _wrong_hash(path, expected):
    """Return the hash of a file if it is not the expected one, else None.

    `expected` is a SHA-256 or its first digits, `md5:` and an MD5, or None.
    """
    import pooch

    if not expected:
        return None
    algorithm, _, digits = expected.rpartition(":")
    received = pooch.file_hash(str(path), alg=algorithm or "sha256")
    return None if received.startswith(digits.lower()) else received


def _md5_of(headers):
    """Return the MD5 in Google's `x-goog-hash: crc32c=...,md5=...` as hexadecimal."""
    for item in headers.get("x-goog-hash", "").split(","):
        kind, _, value = item.strip().partition("=")
        if kind == "md5":
            return base64.b64decode(value).hex()
    return None


def _bar():
    """Return a progress bar on stderr."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


@contextlib.contextmanager
def _alone_in(folder):
    """Lock a folder, after other processes' downloads into it have ended."""
    told = False
    with open(folder / LOCK, "ab") as file:
        while not lock(file):
            if not told:
                print(f"waiting for another download to {folder}", file=sys.stderr)
            told = True
            time.sleep(0.2)
        yield  # closing the file frees the lock
