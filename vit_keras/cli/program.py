"""Shared code of the programs: quiet libraries, one-line errors, exit status."""

import contextlib
import logging
import os
import sys
import tempfile
import traceback
import warnings

VERBOSE_HELP = "Every command takes --verbose: also show the libraries' messages."

# Read by libraries when they are imported.
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # those of transformers, too
}


def run_program(app, name: str, failures: tuple[type[Exception], ...] = ()):
    """Run a typer app, with one-line errors and an exit status.

    Arguments:
        app: the app.
        name: of the program.
        failures: errors with exit status 1; errors of usage and input have 2.
    """
    arguments = [text for text in sys.argv[1:] if text != "--verbose"]
    verbose = len(arguments) < len(sys.argv) - 1
    status = 0
    with contextlib.nullcontext() if verbose else own_lines_only():
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(
                f"{name}: warning: {one_line(message)}", file=sys.stderr
            )
            try:
                app(args=arguments, prog_name=name)
            except failures as error:
                print(f"{name}: {one_line(error)}", file=sys.stderr)
                status = 1
            except (ValueError, OSError, ImportError, FloatingPointError) as error:
                if verbose:
                    traceback.print_exc()
                print(f"{name}: {error_text(error)}", file=sys.stderr)
                status = 2
    if status:
        sys.exit(status)


def error_text(error) -> str:
    """Format an error as one line; a long report of weights stays a list."""
    from ..missing import explain
    from ..weights.entries import CheckpointError

    if isinstance(error, ImportError):
        return one_line(explain(error))
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
        try:
            yield
        finally:
            if sys.stderr is not before:
                sys.stderr.close()
                sys.stderr = before
            os.dup2(kept, 2)
            os.close(kept)
