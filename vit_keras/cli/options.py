"""Values of options of `vit-keras train`, as they are typed."""

import json
import pathlib


def read_recipe(name):
    """Return the recipe of a name, or of a JSON file."""
    from ..text_files import read_json
    from ..training.recipe import Recipe
    from ..training.recipes import RECIPES

    if name in RECIPES:
        return RECIPES[name]
    path = pathlib.Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"`--recipe` must be one of {', '.join(RECIPES)}, or a recipe.json. "
            f"Received: {name}"
        )
    try:
        return Recipe.from_dict(read_json(path))
    except (ValueError, TypeError, AttributeError) as error:  # no JSON, other fields
        raise ValueError(f"'{path}' holds no recipe: {error}") from error


def check_task(task):
    """Return a task, after checking it."""
    from ..heads import DENSE

    valid = ("classify", *DENSE)
    if task not in valid:
        raise ValueError(
            f"`--task` must be one of {', '.join(valid)}. Received: {task}"
        )
    return task


def read_size(text):
    """Parse "224" to 224, and "252x336" to [252, 336], height and width."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise ValueError(
            "`--image-size` must be pixels such as 224, or height x width such as "
            f"252x336. Received: {text}"
        )
    sizes = [int(part) for part in parts]
    return sizes[0] if len(sizes) == 1 else sizes


def read_taps(text):
    """Parse "4" to 4, and "2,5,8,11" to a list."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(
            "`--taps` must be a number of blocks, or indices such as 2,5,8,11. "
            f"Received: {text}"
        )
    taps = [int(part) for part in parts]
    return taps[0] if len(taps) == 1 else taps


def read_setting(text):
    """Parse `"mixup=0.2"` to ("mixup", 0.2); a value that is no JSON stays text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"`--set` must be FIELD=VALUE. Received: {text}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
