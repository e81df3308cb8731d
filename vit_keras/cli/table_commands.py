"""`vit-keras presets` and `recipes`: the tables, without loading a backend."""

from .tables import escaped, new_table, print_table


def list_presets():
    """List the model sizes with their weights and papers."""
    from ..presets import PRESETS

    table = new_table("name", "image", "weights", "source", wrap=("source",))
    for name, preset in PRESETS.items():
        size = "x".join(map(str, preset.config.image_size))
        table.add_row(*escaped(name, size, f"{preset.parameters:,}", preset.paper))
    print_table(table)


def list_recipes():
    """List the recipes with their reference accuracy and sources."""
    from ..training.recipes import RECIPES

    table = new_table(
        *("name", "model", "data", "top-1", "hardware", "source"),
        wrap=("data", "top-1", "hardware"),
    )
    for name, row in RECIPES.items():
        result = row.reference
        facts = (result.data, result.accuracy, result.hardware, result.paper)
        table.add_row(*escaped(name, row.preset or "of --weights", *facts))
    print_table(table)
