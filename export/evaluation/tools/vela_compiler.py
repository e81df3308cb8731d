"""Runs of Vela, Arm's compiler for Ethos-U, and the configurations that it offers."""

import collections
import configparser
import csv
import dataclasses
import importlib.metadata
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from ...child_process import python_command, run_child
from ...errors import missing
from ...targets import TARGETS, get_target

# As a module of this Python, whose script may be anywhere or nowhere.
VELA = "import runpy; runpy.run_module('ethosu.vela', run_name='__main__')"
OPTIONS = ("accelerator", "system_config", "memory_mode", "vela_ini")


@dataclasses.dataclass(frozen=True)
class VelaRun:
    """What a run of Vela left.

    Attributes:
        said: what it printed.
        stopped: why it failed, or "".
        summary: {column: value} of its summary; empty if it failed.
        layers: the same of each operation on the NPU, in order of execution; empty
            unless asked for.
        file: the compiled file.
    """

    said: str
    stopped: str
    summary: dict[str, str]
    layers: tuple[dict[str, str], ...]
    file: pathlib.Path


def vela_tool() -> str:
    """Return Vela's name and version.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        return f"ethos-u-vela {importlib.metadata.version('ethos-u-vela')}"
    except importlib.metadata.PackageNotFoundError as error:
        raise missing("ethos-u-vela", "edge") from error


def vela_targets() -> list[str]:
    """Return the names of the targets that Vela compiles for."""
    return [name for name, row in TARGETS.items() if row.checker == "vela"]


def vela_options(target, options: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the configuration to compile for: a target's, with changes.

    Arguments:
        target: name of an Ethos-U target.
        options: any of "accelerator", such as "ethos-u55-128", of the target's family;
            "system_config" and "memory_mode", sections of the configuration file, the
            former named after the target, as "Ethos_U55_Board"; "vela_ini", that file,
            instead of the one that Vela has.

    Raises:
        ValueError: unknown option or name; the message lists the valid ones.
        FileNotFoundError: there is no such configuration file.
        MissingDependency: Vela is not installed.
    """
    vela_tool()
    from ethosu.vela.architecture_features import CONFIG_FILES_PATH, Accelerator

    options = {key: value for key, value in (options or {}).items() if value}
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise ValueError(
            f"`options` of Vela must be among {', '.join(OPTIONS)}. "
            f"Received: {', '.join(unknown)}"
        )
    ini = pathlib.Path(
        options.get("vela_ini") or pathlib.Path(CONFIG_FILES_PATH, "Arm", "vela.ini")
    ).absolute()
    chosen = {**get_target(target).checker_options, **options, "vela_ini": str(ini)}
    where = f"target {target!r} and '{ini}'"
    family = target.replace("_", "-") + "-"
    accelerators = [n for n in Accelerator.member_list() if n.startswith(family)]
    _check_name("accelerator", chosen["accelerator"], accelerators, where)
    found = _sections(ini)
    # Vela 5.2 tells by this name how wide the bus is: with another one an Ethos-U55 is
    # estimated as if it were twice as wide.
    family = target.capitalize().replace("_u", "_U")
    systems = [n for n in found["System_Config"] if n.startswith(family)]
    _check_name("system_config", chosen["system_config"], systems, where)
    _check_name("memory_mode", chosen["memory_mode"], found["Memory_Mode"], where)
    return chosen


def _check_name(option, value, names, where):
    if value not in names:
        raise ValueError(
            f"`{option}` must be one of {', '.join(names) or 'none'}, by {where}. "
            f"Received: {option}={value!r}"
        )


def _sections(ini) -> dict[str, list[str]]:
    """Return the names of the sections of a configuration file, by their kind."""
    if ini.suffix != ".ini":
        raise ValueError(f"`vela_ini` must be a file *.ini. Received: '{ini}'")
    parser = configparser.ConfigParser()
    try:
        parser.read_string(ini.read_text(encoding="utf-8"), str(ini))
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"`vela_ini` must be a file of sections: {reason}") from error
    found = collections.defaultdict(list)
    for section in parser.sections():
        kind, _, name = section.partition(".")
        found[kind].append(name)
    return found


def run_vela(path, folder, chosen, *arguments) -> VelaRun:
    """Compile a file.

    Arguments:
        path: a `.tflite` file.
        folder: where Vela writes its files.
        chosen: of `vela_options`.
        *arguments: more of Vela's command line.

    Raises:
        ValueError: the accelerator, system and memory do not fit each other.
    """
    path = pathlib.Path(path).absolute()
    options = [
        *(path, "--accelerator-config", chosen["accelerator"]),
        *("--config", chosen["vela_ini"], "--system-config", chosen["system_config"]),
        *("--memory-mode", chosen["memory_mode"], "--output-dir", folder, *arguments),
    ]
    done = run_child(python_command(VELA, *map(str, options)), "Vela")
    if misfit := re.search(r"(?:Cli|Config)OptionError: '?(.*?)'?$", done.stderr, re.M):
        names = {key: chosen[key] for key in OPTIONS}
        raise ValueError(f"Vela refuses the configuration {names}: {misfit[1]}")
    folder = pathlib.Path(folder)
    summaries = _rows(folder, "*_summary_*.csv")
    return VelaRun(
        said=done.stdout + done.stderr,
        stopped=_last_words(done) if done.returncode else "",
        summary=summaries[0] if summaries else {},
        layers=tuple(_rows(folder, "*_per-layer.csv")),
        file=folder / f"{path.stem}_vela.tflite",
    )


def _last_words(done):
    """Return why a process failed: the message of an exception, or its last lines."""
    message = re.search(r"^[\w.]*Error: (.*)", done.stderr, re.M | re.S)
    lines = (done.stdout + done.stderr).strip().splitlines()[-3:]
    text = message[1] if message else " ".join(lines)
    return " ".join(text.split()) or f"exit status {done.returncode}"


def _rows(folder, pattern):
    found = []
    for path in folder.glob(pattern):
        with open(path, newline="", encoding="utf-8") as file:
            found += csv.DictReader(file)
    return found
