"""The tutorial's blocks run, one after the other, where the repository is."""

import pathlib
import re
import shlex

from tests import program

ROOT = pathlib.Path(__file__).parents[3]
TUTORIAL = ROOT / "docs" / "tutorials" / "browser.md"


def test_blocks_run(tmp_path, monkeypatch):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|sh)\n(.*?)```", TUTORIAL.read_text(), re.S)
    assert [kind for kind, _ in blocks] == ["python", "sh", "sh", "sh", "sh"]
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, TUTORIAL.name, "exec"), {})
        elif "npm" not in text and "--serve" not in text:  # tested without a network
            name, *arguments = shlex.split(text)
            done = program.run(name, *arguments)
            assert done.returncode == 0, done.stderr
    assert (tmp_path / "page" / "models" / "cifar10.tflite").is_file()


def test_pictures_are_there():
    found = re.findall(r"!\[.*?\]\((.*?)\)", TUTORIAL.read_text())
    assert len(found) == 3
    for name in found:
        assert (TUTORIAL.parent / name).is_file()
        assert (TUTORIAL.parent / name).stat().st_size < 150_000
