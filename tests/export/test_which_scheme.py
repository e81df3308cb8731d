"""The commands in `docs/which_scheme.md` parse, and ask for what the tables allow."""

import pathlib
import re
import shlex

import pytest
import typer

from export.cli import app
from export.resolve import resolve
from export.targets import ANY, TARGETS

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "which_scheme.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| device")
]
PROGRAM = getattr(typer.main.get_command(app), "commands", {})
COMMANDS = [c for row in ROWS for c in re.findall("`(vit-export [^`]+)`", row[1])]


def parsed(command):
    """(name, {parameter: value}) of a command line, by the program's own parser."""
    program, name, *arguments = shlex.split(command)
    assert program == "vit-export"
    return name, PROGRAM[name].make_context(name, arguments).params


def test_every_row_has_a_command_and_a_reason():
    assert len(ROWS) > 12 and len(COMMANDS) > len(ROWS)
    for device, commands, reason, checked in ROWS:
        assert device and commands.startswith("`vit-export ") and checked
        assert reason.endswith(".") and len(re.findall(r"\. ", reason)) == 0, reason


def test_every_target_is_there():
    targets = {parsed(command)[1].get("target") for command in COMMANDS} - {None}
    assert targets == set(TARGETS) - {ANY}


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_command(command):
    """`resolve` raises for what a scheme or a target does not have."""
    name, values = parsed(command)
    if name != "tflite":
        assert values.get("target") in (None, *TARGETS)
        return
    plan = resolve(
        values["scheme"],
        values["target"],
        trained=False,
        has_calibration=values["calibration"] is not None,
        has_evaluation=False,
    )
    assert plan.scheme == values["scheme"] and plan.target == values["target"]


def test_lists_are_called_lists():
    for _, commands, _, checked in ROWS:
        for command in re.findall("`(vit-export (?:tflite|check) [^`]+)`", commands):
            row = TARGETS[parsed(command)[1]["target"]]
            assert (row.checker == "op_list") == (checked == "by list"), commands


def test_options_in_the_reasons_exist():
    known = {
        option
        for command in PROGRAM.values()
        for parameter in command.params
        for option in parameter.opts
    }
    options = set(re.findall(r"(--[a-z][a-z-]+)", PAGE.read_text()))
    assert len(options) > 8 and options <= known
