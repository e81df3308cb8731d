"""Running an export on Keras' TensorFlow backend, whichever backend is active.

On JAX and torch the same writer runs in a child process with TensorFlow's backend. It
reads its request from a JSON file and answers in JSON lines: stages, warnings, and a
result or an error, which is raised here with the same type.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import pkgutil
import signal
import subprocess
import sys
import tempfile
import warnings
from typing import Any

from .child_process import check_not_killed, python_command
from .errors import (
    MissingDependency,
    ParityError,
    UnsupportedOperators,
    missing,
)
from .progress import report_stages_to, stage

# The functions that a request can name; they take the request's arguments.
CALLS = {
    "to_tflite": "export.tflite.writer:answer_request",
    "to_saved_model": "export.serving.saved_model:answer_request",
    "verify_layers": "export.tflite.layer_errors:answer_request",
}
# Errors that keep their type; any other becomes its nearest base class listed here.
ERRORS = {
    kind.__name__: kind
    for kind in (
        *(ParityError, UnsupportedOperators, MissingDependency),
        *(FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError),
        *(PermissionError, OSError, ImportError, ValueError, TypeError, MemoryError),
    )
}


def is_tensorflow() -> bool:
    """Return whether this process runs Keras on TensorFlow.

    Raises:
        MissingDependency: TensorFlow is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise missing("tensorflow")
    import keras

    return keras.backend.backend() == "tensorflow"


def require_tensorflow(name: str) -> None:
    """Check that this process runs Keras on TensorFlow and that tfmot is installed.

    Raises:
        ValueError: Keras runs on another backend.
        MissingDependency: the extra "qat" is not installed.
    """
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"`{name}` needs Keras on TensorFlow: save the model as a .keras file, "
            "start Python with KERAS_BACKEND=tensorflow, and load it there. Received: "
            f"backend={backend!r}"
        )
    if importlib.util.find_spec("tensorflow_model_optimization") is None:
        raise missing("tensorflow-model-optimization", "qat")


def run_in_child(call: str, arguments: dict[str, Any]) -> Any:
    """Call a function in a process that runs Keras on TensorFlow.

    Arguments:
        call: a name in `CALLS`.
        arguments: keyword arguments of the function, as JSON can express them.

    Returns:
        The function's result.

    Raises:
        The error that it raised, of the same type if that is in `ERRORS`.
        ChildProcessError: it was killed.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        request = pathlib.Path(folder, "request.json")
        request.write_text(json.dumps({"call": call, "arguments": arguments}))
        log = stack.enter_context(open(pathlib.Path(folder, "stderr"), "w+"))
        code = f"from {__name__} import main; main(sys.argv[1])"
        child = subprocess.Popen(
            python_command(code, str(request)),
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            stdin=subprocess.PIPE,  # ends with this process, even if that is killed
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        stack.callback(_end, child)  # also after Ctrl-C
        for line in child.stdout or ():
            message = json.loads(line)
            if "stage" in message:
                stage(message["stage"])
            elif "warning" in message:
                warnings.warn(message["warning"], stacklevel=3)
            elif "error" in message:
                raise _restored(message)
            else:
                return message["result"]
        check_not_killed("the process on TensorFlow", child.wait())
        log.seek(0)
        said = [line for line in log.read().splitlines() if line.strip()][-5:]
        raise RuntimeError(
            f"the process on TensorFlow ended with status {child.wait()} and without "
            f"an answer: {' '.join(said)}"
        )


def _end(child):
    child.stdin.close()
    child.stdout.close()
    if child.poll() is None:
        child.terminate()
    child.wait()


def _restored(message) -> BaseException:
    """Rebuild the error that the child process described."""
    kind, text = ERRORS.get(message["error"], RuntimeError), message["message"]
    if kind is ParityError and message["parity"] is not None:
        from .evaluation.parity import Parity

        return ParityError(text, Parity.from_dict(message["parity"]))
    error = kind(text)
    if isinstance(error, OSError):
        error.errno = message["errno"]
    return error


def _described(error) -> dict[str, Any]:
    """Describe an error as plain data for JSON."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    parity = getattr(error, "parity", None)
    return {
        "error": next((kind for kind in kinds if kind in ERRORS), "RuntimeError"),
        "message": str(error),
        "errno": getattr(error, "errno", None),
        "parity": None if parity is None else parity.to_dict(),
    }


def main(path):
    """Answer the request in a file; runs in the child process.

    It ends with its parent, and removes its unfinished files.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Libraries may print: stdout goes to stderr, answers to a copy of stdout.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**message):
        print(json.dumps(message), file=answers, flush=True)

    request = json.loads(pathlib.Path(path).read_text())
    warnings.showwarning = lambda message, *_, **__: answer(warning=str(message))
    function = pkgutil.resolve_name(CALLS[request["call"]])
    with report_stages_to(lambda text: answer(stage=text)):
        try:
            answer(result=function(**request["arguments"]))
        except Exception as error:
            answer(**_described(error))


@contextlib.contextmanager
def keras_3_environment():
    """Restore the environment that importing TensorFlow Model Optimization changes: it
    makes all of TensorFlow, and every child process, use Keras 2."""
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        yield
    finally:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
        if before is not None:
            os.environ["TF_USE_LEGACY_KERAS"] = before
