"""LiteRT.js for a page: from a CDN, or copied beside it; every file by its hash.

`litert_js.json` is the one place with its version, the hashes of its packages as npm
has them, and those of the files that a page loads.
"""

import base64
import hashlib
import io
import json
import os
import pathlib
import tarfile
import urllib.error
import urllib.request
from typing import Any

NPM = "npm"  # in place of a folder: where packages are downloaded from
REGISTRY = "https://registry.npmjs.org"
CDN = "https://cdn.jsdelivr.net/npm"  # serves the files of npm as they are
CORE, UTILS = "@litertjs/core", "@litertjs/wasm-utils"
COPIED = "litertjs"  # folder of a page
SECONDS = 60  # without an answer of the registry


def packages() -> dict[str, Any]:
    """The packages of LiteRT.js: {name: version, hash of the tarball, and of files}."""
    table = pathlib.Path(__file__).with_name("litert_js.json")
    return json.loads(table.read_text(encoding="utf-8"))


def import_map(copied: bool) -> dict[str, Any]:
    """Return the page's import map, with the hashes of the modules."""
    found: dict[str, Any] = {"imports": {}, "integrity": {}}
    for name, package in packages().items():
        url = f"{_folder(name, package, copied)}/dist/index.js"
        found["imports"][name] = url
        found["integrity"][url] = package["files"]["dist/index.js"]
    return found


def builds(copied: bool) -> dict[str, Any]:
    """Return what the page has to know to load WebAssembly: version, folder, hashes."""
    package = packages()[CORE]
    hashes = {n: h for n, h in package["files"].items() if n.startswith("wasm/")}
    folder = _folder(CORE, package, copied)
    return {"version": package["version"], "folder": folder, "integrity": hashes}


def _folder(name, package, copied):
    return f"./{COPIED}/{name}" if copied else f"{CDN}/{name}@{package['version']}"


def copy_runtime(vendor: str | os.PathLike[str], page: pathlib.Path) -> None:
    """Copy LiteRT.js into a page's folder.

    Arguments:
        vendor: "npm", or a folder that holds the packages, as `node_modules` does.
        page: folder of the page.

    Raises:
        FileNotFoundError: the folder does not have a file.
        ValueError: a file is not that of the version in `litert_js.json`.
        OSError: npm's registry does not answer.
    """
    for name, package in packages().items():
        if vendor == NPM:
            found = _downloaded(name, package)
        else:
            found = _in_folder(pathlib.Path(vendor), name, package)
        for file, content in found.items():
            expected = package["files"][file]
            if integrity(content, "sha384") != expected:
                raise ValueError(
                    f"`vendor` must have {name} {package['version']}. '{file}' of "
                    f"'{vendor}' is another: its hash is not {expected}"
                )
            path = page / COPIED / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def integrity(content: bytes, algorithm: str) -> str:
    """Return a hash as browsers and npm write it (W3C Subresource Integrity)."""
    digest = hashlib.new(algorithm, content).digest()
    return f"{algorithm}-{base64.b64encode(digest).decode()}"


def _in_folder(folder, name, package):
    """The files that a page needs of an unpacked package: {name: bytes}."""
    root = folder / name
    missing = [file for file in package["files"] if not (root / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"`vendor` must be {NPM!r}, or a folder with {CORE} and {UTILS}, as "
            f"`npm install {CORE}@{package['version']}` makes node_modules. "
            f"'{root / missing[0]}' is not there"
        )
    return {file: (root / file).read_bytes() for file in package["files"]}


def _downloaded(name, package):
    """The same files of a package in npm's registry."""
    file = f"{name.rpartition('/')[2]}-{package['version']}.tgz"
    url = f"{REGISTRY}/{name}/-/{file}"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            content = answer.read()
    except urllib.error.URLError as error:
        raise OSError(
            f"{url} cannot be downloaded: {error}. Where there is no network, give "
            "`vendor` a node_modules folder"
        ) from error
    if integrity(content, "sha512") != package["tarball"]:
        raise ValueError(f"{url} is damaged: its hash is not {package['tarball']}")
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        names = {
            file: archive.getmember(f"package/{file}") for file in package["files"]
        }
        opened = {file: archive.extractfile(name) for file, name in names.items()}
        return {file: content.read() for file, content in opened.items() if content}
