"""Hooks of mkdocs: what is generated comes in, and every public name must be described.

A line `<!-- generated: NAME -->` in a page becomes the table of that name in `TABLES`;
`<!-- results: FILE -->` becomes that table of `benchmarks/results`,
`<!-- bars: FILE -->` its bars, and `<!-- file: PATH -->` the file, if the clone has it.
"""

import logging
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(pathlib.Path(__file__).parent)]

import code_tables  # noqa: E402
import command_pages  # noqa: E402
import formulas  # noqa: E402
import public_names  # noqa: E402
import result_tables  # noqa: E402

log = logging.getLogger("mkdocs.hooks.generated")  # --strict: a warning fails

TABLES = {
    "schemes": code_tables.schemes,
    "targets": code_tables.targets,
    "graph options": code_tables.graph_options,
    "presets": code_tables.presets,
    "recipes": code_tables.recipes,
    "recipe commands": code_tables.recipe_commands,
    "recipe fields": code_tables.recipe_fields,
    "layouts": code_tables.layouts,
    "published": code_tables.published,
    "heads": code_tables.heads,
    "vit-keras": lambda: command_pages.reference("vit-keras"),
    "vit-export": lambda: command_pages.reference("vit-export"),
    "qualcomm chips": result_tables.qualcomm_chips,
    "all results": result_tables.everything,
}
LANGUAGES = {
    **{".py": "python", ".h": "c", ".cc": "cpp", ".kt": "kotlin"},
    ".swift": "swift",
}
MARK = re.compile(r"^<!-- (generated|results|bars|file): (.+?) -->$", re.M)


def on_config(config):
    """Formulas: a block `math` becomes MathML, which browsers draw by themselves."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences.setdefault("custom_fences", []).append(
        {"name": "math", "class": "math", "format": formulas.as_mathml}
    )
    return config


def on_page_markdown(markdown, page, **_):
    """Put in what is generated; in the reference, ask for all public names."""
    for package, names in public_names.missing(page.file.src_uri, markdown).items():
        log.warning(f"{page.file.src_uri}: without {', '.join(names)} of {package}")
    return expand(markdown)


def expand(markdown: str) -> str:
    """Return a page's text with everything that is generated."""
    return MARK.sub(lambda found: _generate(*found.groups()), markdown)


def on_env(env, **_):
    """Every public name has a docstring that tools can read."""
    for name in public_names.undescribed():
        log.warning(f"{name} has no docstring")
    return env


def _generate(kind, name):
    if kind == "generated":
        return TABLES[name]()
    if kind == "results":
        return result_tables.table(name)
    if kind == "bars":
        return result_tables.bars(name)
    path = ROOT / name
    if not path.is_file():
        return ""
    code = path.read_text(encoding="utf-8").rstrip()
    block = f"```{LANGUAGES.get(path.suffix, '')}\n{code}\n```"
    start = f'<details markdown="1"><summary><code>{name}</code></summary>'
    return f"{start}\n\n{block}\n\n</details>"
