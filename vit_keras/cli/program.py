"""Shared code of the programs: quiet libraries, one-line errors, exit status."""

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator

VERBOSE_HELP = "Every command takes --verbose: also show the libraries' messages."

# Read by libraries when they are imported.
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # those of transformers, too
}

# Errors of usage and input: one line, status 2.
EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)

# Names of errors, and words of others, of Python, TensorFlow, JAX and torch.
NO_MEMORY = {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}
NO_MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "could not create a primitive")
NO_MEMORY_WORDS += ("can't start new thread",)


def run_program(app, name: str, failures: tuple[type[Exception], ...] = ()):
    """Run a typer app, with one-line errors and an exit status.

    Arguments:
        app: the app.
        name: of the program.
        failures: errors with exit status 1; errors of usage and input have 2. Ctrl-C
            ends with 130 and SIGTERM with 143, after unfinished files are removed and
            child processes have ended.
    """
    arguments = [text for text in sys.argv[1:] if text != "--verbose"]
    verbose = len(arguments) < len(sys.argv) - 1
    status = 0
    with contextlib.nullcontext() if verbose else own_lines_only():
        with warnings.catch_warnings(), stop_signals() as received:
            warnings.showwarning = lambda message, *_, **__: print(
                f"{name}: warning: {one_line(message)}", file=sys.stderr
            )
            try:
                app(args=arguments, prog_name=name)
            except BaseException as error:
                if received:  # libraries turn it into other errors
                    status = 128 + received[0]
                elif isinstance(error, failures):
                    print(f"{name}: {one_line(error)}", file=sys.stderr)
                    status = 1
                elif isinstance(error, EXPECTED) or out_of_memory(error):
                    if verbose:
                        traceback.print_exc()
                    print(f"{name}: {error_text(error)}", file=sys.stderr)
                    status = 2
                else:
                    raise
    if status:
        sys.exit(status)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt at SIGTERM as at Ctrl-C.

    Yields:
        The signals that were received.
    """
    received: list[int] = []
    before = {}

    def stop(number, _):
        received.append(number)
        raise KeyboardInterrupt

    def ignored(unraisable):
        """An error that Python had to ignore, as in a callback of the collector."""
        if received and unraisable.exc_type is KeyboardInterrupt:
            number = received.pop()
            threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        else:
            hook(unraisable)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as in jobs in the background
            before[number] = signal.signal(number, stop)
    hook, sys.unraisablehook = sys.unraisablehook, ignored
    try:
        yield received
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory was too small, in the words of Python or a backend."""
    names = {kind.__name__ for kind in type(error).__mro__}
    said = str(error) if names & {"RuntimeError", "OpError"} else ""
    return bool(names & NO_MEMORY) or any(words in said for words in NO_MEMORY_WORDS)


def error_text(error) -> str:
    """Format an error as one line; a long report of weights stays a list."""
    from ..missing import explain
    from ..weights.entries import CheckpointError

    if isinstance(error, ImportError):
        return one_line(explain(error))
    if out_of_memory(error):
        return f"memory is too small: {one_line(error) or type(error).__name__}"
    many = isinstance(error, CheckpointError) and str(error).count("\n") > 3
    return str(error) if many else one_line(error)


def one_line(message) -> str:
    """Return a text without line breaks."""
    return " ".join(str(message).split())


@contextlib.contextmanager
def own_lines_only():
    """Hide what libraries write to stderr: banners, INFO, deprecations.

    They write to the file descriptor; Python's `sys.stderr` is kept.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for library in ("tensorflow", "absl", "jax"):
        logging.getLogger(library).setLevel(logging.ERROR)
    before, kept = sys.stderr, os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        before.flush()
        os.dup2(hidden.fileno(), 2)
        if before is sys.__stderr__:  # else a test has captured it
            sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1, errors="replace")
            # A library that aborts, as without memory, would end it without a word.
            faulthandler.enable(sys.stderr, all_threads=False)
        try:
            yield
        finally:
            if sys.stderr is not before:
                faulthandler.disable()
                sys.stderr.close()
                sys.stderr = before
            os.dup2(kept, 2)
            os.close(kept)
