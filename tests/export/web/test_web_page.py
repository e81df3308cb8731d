"""The folder of a page: what is in it, and that it is written whole or not at all."""

import json
import re
import shutil

import pytest

import export
from export.evaluation.tools import litert_js
from export.web import runtime
from export.web.runtime import import_map, integrity, packages
from export.web.web_page import STATIC

PACKAGES = STATIC.parents[2] / "tests" / "web"


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A node_modules folder whose packages are a few bytes, and their table."""
    folder, table = tmp_path / "node_modules", packages()
    for name, package in table.items():
        for file in package["files"]:
            content = f"{name}/{file}".encode()
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            package["files"][file] = integrity(content, "sha384")
    monkeypatch.setattr(runtime, "packages", lambda: table)
    return folder


def names(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in files}


def test_a_page_that_loads_from_the_cdn(file, tmp_path):
    out = export.web_page(file, tmp_path / "page")
    static = {path.name for path in STATIC.iterdir()}
    assert names(out) == {*static, "page.json", "models/classes.tflite"}
    contents = json.loads((out / "page.json").read_text(encoding="utf-8"))
    (model,) = contents["models"]
    content = (out / model["file"]).read_bytes()
    assert content == file.read_bytes() and model["bytes"] == len(content)
    assert model["integrity"] == integrity(content, "sha384")
    version = packages()[runtime.CORE]["version"]
    folder = f"https://cdn.jsdelivr.net/npm/@litertjs/core@{version}"
    assert contents["runtime"]["folder"] == folder
    index = (out / "index.html").read_text(encoding="utf-8")
    (text,) = re.findall(r'<script type="importmap">(.*?)</script>', index, re.S)
    assert json.loads(text) == import_map(copied=False)
    assert json.loads(text)["imports"][runtime.CORE] == f"{folder}/dist/index.js"
    assert set(json.loads(text)["imports"].values()) == set(
        json.loads(text)["integrity"]
    )


def test_a_page_with_a_copy(file, small, tmp_path):
    out = export.web_page([file], tmp_path / "page", vendor=small)
    copied = {f"litertjs/{name}" for name in names(small)}
    assert copied < names(out)
    text = (out / "index.html").read_text() + (out / "page.json").read_text()
    assert "https://cdn" not in text and "{{" not in text
    assert (out / "litertjs/@litertjs/core/dist/index.js").is_file()


def test_another_version_is_refused(file, small, tmp_path):
    changed = small / runtime.CORE / "dist/index.js"
    changed.write_bytes(b"another")
    with pytest.raises(ValueError, match=r"must have @litertjs/core .* is another"):
        export.web_page(file, tmp_path / "page", vendor=small)
    changed.unlink()
    with pytest.raises(FileNotFoundError, match="`vendor` must be 'npm', or a folder"):
        export.web_page(file, tmp_path / "page", vendor=small)
    assert {path.name for path in tmp_path.iterdir()} == {"node_modules"}


class Answer:
    """What urlopen gives."""

    def __init__(self, content):
        self.content = content

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self):
        return self.content


def test_packages_of_npm_are_checked(file, small, tmp_path, monkeypatch):
    table, sent = runtime.packages(), {}
    for name, package in table.items():
        shutil.copytree(small / name, tmp_path / name / "package")
        place = tmp_path / name.replace("/", "-")
        shutil.make_archive(str(place), "gztar", tmp_path / name, "package")
        content = place.with_name(f"{place.name}.tar.gz").read_bytes()
        package["tarball"] = integrity(content, "sha512")
        last = f"{name.rpartition('/')[2]}-{package['version']}.tgz"
        sent[f"https://registry.npmjs.org/{name}/-/{last}"] = content
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda url, timeout: Answer(sent[url])
    )
    out = export.web_page(file, tmp_path / "page", vendor="npm")
    assert {f"litertjs/{name}" for name in names(small)} < names(out)
    table[runtime.UTILS]["tarball"] = "sha512-other"
    with pytest.raises(ValueError, match="wasm-utils-.* is damaged"):
        export.web_page(file, tmp_path / "page", vendor="npm")


def test_no_network(file, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="cannot be downloaded.*node_modules folder"):
        export.web_page(file, tmp_path / "page", vendor="npm")
    assert list(tmp_path.iterdir()) == []


def test_one_version_everywhere():
    """Of the page, of what the target's checker says, and of the browser tests."""
    table = packages()
    assert litert_js.RULES.endswith(table[runtime.CORE]["version"])
    lock = json.loads((PACKAGES / "package-lock.json").read_text())["packages"]
    for name, package in table.items():
        locked = lock[f"node_modules/{name}"]
        assert locked["version"] == package["version"]
        assert locked["integrity"] == package["tarball"]


def test_only_a_page_is_replaced(file, tmp_path):
    out = tmp_path / "page"
    out.mkdir()
    export.web_page(file, out)  # an empty folder is fine
    (out / "models" / "old.tflite").write_bytes(b"")
    export.web_page(file, out)
    assert "models/old.tflite" not in names(out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="new or empty folder, or an earlier"):
        export.web_page(file, tmp_path / "mine")
    assert names(tmp_path / "mine") == {"notes.txt"}
    (tmp_path / "mine" / "page.json").write_text("{}")  # of something else
    (out / "CNAME").write_text("example.com")
    for folder, lost in (("mine", "notes.txt"), ("page", "CNAME")):
        with pytest.raises(FileExistsError, match=f"would be lost: '{lost}'"):
            export.web_page(file, tmp_path / folder)
        assert (tmp_path / folder / lost).is_file()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        export.web_page(file, tmp_path / "none" / "page")


def test_names_of_files(file, tmp_path):
    (tmp_path / "other").mkdir()
    same = shutil.copy(file, tmp_path / "other")
    with pytest.raises(ValueError, match=r"Received twice: \['classes.tflite'\]"):
        export.web_page([file, same], tmp_path / "page")
    with pytest.raises(ValueError, match="at least one .tflite file"):
        export.web_page([], tmp_path / "page")
    with pytest.raises(ValueError, match="is a folder. `vit-export tflite"):
        export.web_page(tmp_path / "other", tmp_path / "page")


def test_addresses_of_files_are_escaped(file, tmp_path):
    """A name may have what means something else in a URL."""
    odd = shutil.copy(file, tmp_path / "50% ü#1?.tflite")
    out = export.web_page(odd, tmp_path / "page")
    (model,) = json.loads((out / "page.json").read_text(encoding="utf-8"))["models"]
    assert model["file"] == "models/50%25%20%C3%BC%231%3F.tflite"
    assert model["name"] == "50% ü#1?"
    assert (out / "models" / "50% ü#1?.tflite").is_file()
