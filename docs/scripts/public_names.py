"""The public names of both packages, by their stubs, and what the reference lacks."""

import ast
import functools
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {
    "reference/api/vit_keras.md": "vit_keras",
    "reference/api/export.md": "export",
}


@functools.cache
def homes(package: str) -> dict[str, str]:
    """Return {public name: full name of its module, or of itself if it is one}."""
    stub = ast.parse((ROOT / package / "__init__.pyi").read_text(encoding="utf-8"))
    found = {}
    for node in stub.body:
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            found[alias.name] = f"{package}.{node.module or alias.name}"
    return found


def missing(page: str, markdown: str) -> dict[str, list[str]]:
    """Return {package: names that its page of the reference does not have}."""
    if page not in PAGES:
        return {}
    package = PAGES[page]
    there = set(re.findall(rf"^::: {package}\.(\w+)", markdown, re.M))
    absent = sorted(set(homes(package)) - there)
    return {package: absent} if absent else {}


def undescribed() -> list[str]:
    """Return the public names without a docstring, read as the reference reads it."""
    import griffe

    found = []
    for package in PAGES.values():
        loader = griffe.GriffeLoader(search_paths=[str(ROOT)])
        loader.load(package)
        for name, home in homes(package).items():
            inner = home.removeprefix(f"{package}.")
            path = inner if inner == name else f"{inner}.{name}"
            try:
                item = loader.modules_collection[package][path]
            except KeyError:  # `from .a import b` where b is a module's own name
                item = loader.modules_collection[package][f"{inner}.{name}"]
            if item.is_alias:
                item = item.final_target
            if item.docstring is None:
                found.append(f"{package}.{name}")
    return found
