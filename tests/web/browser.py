"""Chromium, driven by `browser.mjs` in Node.js."""

import json
import pathlib
import subprocess

FOLDER = pathlib.Path(__file__).parent
PACKAGES = FOLDER / "node_modules"


class Browser:
    """A browser with one page.

    Arguments:
        executable: of Chromium.
        webgpu: whether it has WebGPU, in software.
    """

    def __init__(self, executable, webgpu=False):
        graphics = "webgpu" if webgpu else "none"
        self._process = subprocess.Popen(
            ["node", "browser.mjs", executable, graphics],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, command, **options):
        """Send a command; return its answer."""
        self._process.stdin.write(json.dumps({"command": command, **options}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise AssertionError(f"{command}: {answer['error']}")
        return answer["value"]

    def open(self, url, width=1280, height=900, scheme="light"):
        """Open the page, and wait until its model is ready."""
        self("open", url=url, width=width, height=height, scheme=scheme)
        self.wait("!document.getElementById('choose').disabled")

    def wait(self, code, seconds=60):
        """Wait until an expression is true; fail if the page shows an error."""
        wrong = "document.querySelector('#status.error')"
        self("wait", code=f"({code}) || {wrong}", seconds=seconds)
        said = self.evaluate(f"{wrong}?.textContent")
        assert said is None, said

    def evaluate(self, code):
        """The value of an expression."""
        return self("evaluate", code=code)

    def choose(self, file):
        """Choose a picture, and wait for the result."""
        self.evaluate("document.getElementById('results').replaceChildren()")
        self("choose", file=str(pathlib.Path(file).resolve()))
        self.wait_for_result()

    def wait_for_result(self):
        """Wait until a result is shown."""
        self.wait("document.querySelector('#results .output')")

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()
