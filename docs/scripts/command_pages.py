"""The reference of a program's commands, from the program itself."""

import importlib
import os

import typer
from code_tables import markdown_table

MODULES = {"vit-keras": "vit_keras.cli", "vit-export": "export.cli"}


def commands(program: str) -> dict[tuple[str, ...], object]:
    """Return {words of a command: its click command}, in the program's order."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # for the import alone
    app = importlib.import_module(MODULES[program]).app
    found = {}

    def walk(words, command):
        inner = getattr(command, "commands", None)
        if inner is None:
            found[words] = command
        for name, child in (inner or {}).items():
            walk((*words, name), child)

    walk((), typer.main.get_command(app))
    return found


def reference(program: str) -> str:
    """Return all commands of a program with their arguments and options."""
    sections = []
    for words, command in commands(program).items():
        title = " ".join((program, *words))
        usage = [f"{title} [OPTIONS]"]
        rows = []
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                many = "..." if parameter.nargs == -1 else ""
                usage.append(f"{parameter.name.upper()}{many}")
                rows.append((f"`{parameter.name.upper()}`", "", parameter.help))
            else:
                opts = [*parameter.opts, *parameter.secondary_opts]
                name = " / ".join(f"`{o}`" for o in opts)
                rows.append((name, _default(parameter), parameter.help))
        text = " ".join(command.help.split())
        table = markdown_table(("argument", "default", "meaning"), rows) if rows else ""
        sections.append(f"### {title}\n\n{text}\n\n```text\n{' '.join(usage)}\n```\n")
        sections.append(table)
    return "\n\n".join(filter(None, sections))


def _default(parameter):
    if parameter.required:
        return "required"
    if parameter.default in (None, False, ()) or callable(parameter.default):
        return ""
    return f"`{parameter.default}`"
