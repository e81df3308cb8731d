"""Checks in a child process, for runtimes that abort or only write to stderr."""

import json
import os
import subprocess
import sys

from ... import child_process

NO_MEMORY = ("MemoryError", "std::bad_alloc", "Cannot allocate memory")


def run_check(function, path, environment=None, timeout: float | None = 600):
    """Run a function of a path, "module:name", and return the JSON it prints last.

    Returns:
        (dict, stderr); if it failed, an empty dict and all its output.

    Raises:
        ChildProcessError: it was killed, which says nothing about the file.
        MemoryError: nor does this.
    """
    module, name = function.split(":")
    code = f"import {child_process.__name__} as own; own.end_with_parent(); "
    code += f"import sys; from {module} import {name}; {name}(sys.argv[1])"
    theirs, ours = os.pipe()  # closed when this process ends, even if it is killed
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            stdin=theirs,
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
        )
    finally:
        os.close(theirs)
        os.close(ours)
    child_process.check_not_killed(f"the process that runs '{path}'", done.returncode)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = done.stdout + done.stderr
        if any(words in said for words in NO_MEMORY):
            raise MemoryError(f"the process that runs '{path}' had too little")
        return {}, said
    return json.loads(lines[-1]), done.stderr


def answer(**values):
    """Print the result of a check in the child process."""
    print(json.dumps(values), flush=True)
