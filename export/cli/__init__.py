"""The command line `vit-export`: tflite, saved-model, verify, compare, check, compile,
c-array, describe, benchmark, report, web, schemes, targets, prune, cluster, qat.

Exit status: 0 success, 1 the artefact failed its check, 2 wrong usage or invalid input,
with a one-line error on stderr, 130 stopped by Ctrl-C, 143 by SIGTERM. Help and lists
load no backend.
"""

import os

# Conversion needs TensorFlow's backend, whichever the model was trained on. Set before
# anything imports Keras.
os.environ["KERAS_BACKEND"] = "tensorflow"

import typer  # noqa: E402

from vit_keras.cli.program import VERBOSE_HELP, run_program  # noqa: E402

from ..errors import ParityError  # noqa: E402
from . import (  # noqa: E402
    c_array_command,
    check_command,
    compile_command,
    evaluation_commands,
    export_commands,
    list_commands,
    report_command,
    training_commands,
    web_command,
)

app = typer.Typer(
    help=f"Export and check Keras Vision Transformers. {VERBOSE_HELP}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("tflite")(export_commands.tflite_command)
app.command("saved-model")(export_commands.saved_model_command)
app.command("verify")(evaluation_commands.verify_command)
app.command("check")(check_command.check_command)
app.command("compile")(compile_command.compile_command)
app.command("c-array")(c_array_command.c_array_command)
app.command("compare")(evaluation_commands.compare_command)
app.command("benchmark")(evaluation_commands.benchmark_command)
app.command("describe")(evaluation_commands.describe_command)
app.command("report")(report_command.report_command)
app.command("web")(web_command.web_command)
app.command("schemes")(list_commands.list_schemes)
app.command("targets")(list_commands.list_targets)
app.command("qat")(training_commands.qat_command)
app.command("prune")(training_commands.prune_command)
app.command("cluster")(training_commands.cluster_command)


def main():
    """Run the program."""
    run_program(app, "vit-export", failures=(ParityError,))
