"""Run the commands of all `console` blocks, and write what they print into the pages.

    python docs/scripts/transcripts.py

A line `$ COMMAND` is run as typed; what follows up to the next one is its output. All
pages share one temporary folder, in the order of `mkdocs.yml`, so that a page can use
what an earlier one trained. `transcripts.json` beside this file keeps the digest of
each page's blocks: a test compares it, so that nobody edits an output by hand.
"""

import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
DIGESTS = pathlib.Path(__file__).with_name("transcripts.json")
MODULES = {"vit-keras": "vit_keras.cli", "vit-export": "export.cli"}
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
COLUMNS = 84  # as wide as a block of the site


def pages() -> list[pathlib.Path]:
    """Return the pages that have transcripts, in the order of the site."""
    names = re.findall(r"(\S+\.md)", (ROOT / "mkdocs.yml").read_text("utf-8"))
    there = [DOCS / name for name in names if (DOCS / name).is_file()]
    return [page for page in there if BLOCK.search(page.read_text("utf-8"))]


def digest(page: pathlib.Path) -> str:
    """Return the digest of a page's transcripts."""
    blocks = "\n".join(BLOCK.findall(page.read_text("utf-8")))
    return hashlib.sha256(blocks.encode()).hexdigest()


def commands(block: str) -> list[str]:
    """Return the commands of a block, as typed."""
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def output_of(command: str, folder: str) -> str:
    """Run a command of ours in a folder; return what it prints, without the stages
    and their times, which go to stderr."""
    program, *arguments = shlex.split(command)
    start = f"import sys; sys.argv[0] = {program!r}; from {MODULES[program]} import "
    done = subprocess.run(
        [sys.executable, "-c", f"{start}main; main()", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(COLUMNS)},
        text=True,
        capture_output=True,
    )
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def rerun(block: str, folder: str) -> str:
    """Return a block with its commands' new outputs."""
    parts = []
    for command in commands(block):
        print(f"$ {command}", flush=True)
        lines = (line.rstrip() for line in output_of(command, folder).splitlines())
        text = "\n".join(lines).strip("\n")
        parts.append(f"$ {command}\n{text}".rstrip("\n"))
    return "\n\n".join(parts) + "\n"


def main():
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "examples").symlink_to(ROOT / "examples")
        for page in pages():
            text = BLOCK.sub(
                lambda found: f"```console\n{rerun(found[1], folder)}```",
                page.read_text("utf-8"),
            )
            page.write_text(text, encoding="utf-8")
            digests[str(page.relative_to(DOCS))] = digest(page)
    DIGESTS.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
