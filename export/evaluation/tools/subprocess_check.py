"""A check in a process of its own: some runtimes abort, or write to stderr only."""

import json
import subprocess
import sys


def run_check(function, path, environment=None, timeout=600):
    """What a function of the path, "module:name", prints as its last line, as JSON.

    Returns:
        (dict, all it wrote to stderr); the dict is empty if it failed.
    """
    module, name = function.split(":")
    code = f"import sys; from {module} import {name}; {name}(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {}, done.stdout + done.stderr
    return json.loads(lines[-1]), done.stderr


def answer(**values):
    """What the child says."""
    print(json.dumps(values), flush=True)
