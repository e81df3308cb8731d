"""Tables for a terminal of any width, with names that can be copied."""

import rich.console
import rich.markup
import rich.measure
from rich.table import Table
from rich.text import Text


def new_table(*columns: str, wrap: tuple[str, ...] = (), **options) -> Table:
    """Return a table whose cells are not wrapped, except columns of prose.

    Arguments:
        columns: titles.
        wrap: titles of the columns whose text may be wrapped.
        **options: of `rich.table.Table`.
    """
    table = Table(**options)
    for title in columns:
        table.add_column(title, no_wrap=title not in wrap, overflow="fold")
    return table


def print_table(table: Table):
    """Print a table, wider than the terminal if its unwrapped cells need it."""
    console = rich.console.Console()
    for column in table.columns:
        if column.no_wrap:
            texts = [
                Text.from_markup(str(text)) for text in (column.header, *column.cells)
            ]
            lines = [line for text in texts for line in text.split()]
            column.min_width = max((line.cell_len for line in lines), default=0)
    unlimited = console.options.update(max_width=10_000)
    needed = rich.measure.Measurement.get(console, unlimited, table).minimum
    console.width = max(console.width, needed)
    console.print(table)


def escaped(*cells) -> list[str]:
    """Return cells as text without rich's markup."""
    return [rich.markup.escape(str(cell)) for cell in cells]
