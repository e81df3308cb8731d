"""The command line `vit-keras`: presets, recipes, train, evaluate, predict,
attention, zero-shot, weights.

Exit status: 0 success, 2 wrong usage or invalid input, with a one-line error on stderr,
130 stopped by Ctrl-C, 143 by SIGTERM. Help and lists load no backend.
"""

import typer

from . import (
    attention_command,
    run_commands,
    table_commands,
    weights_commands,
    zero_shot_command,
)
from .program import VERBOSE_HELP, run_program

app = typer.Typer(
    help=f"Vision Transformers in Keras 3. {VERBOSE_HELP}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("presets")(table_commands.list_presets)
app.command("recipes")(table_commands.list_recipes)
app.command("train")(run_commands.train_command)
app.command("evaluate")(run_commands.evaluate_command)
app.command("predict")(run_commands.predict_command)
app.command("attention")(attention_command.attention_command)
app.command("zero-shot")(zero_shot_command.zero_shot_command)
app.add_typer(weights_commands.app, name="weights")


def main():
    """Run the program."""
    run_program(app, "vit-keras")
