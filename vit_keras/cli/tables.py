"""Tables in which names can be read and copied, however narrow the terminal is."""

import rich.console
import rich.markup
import rich.measure
from rich.table import Table
from rich.text import Text


def new_table(*columns: str, wrap: tuple[str, ...] = (), **options) -> Table:
    """A table whose cells stay whole, except those of prose.

    Arguments:
        columns: their titles.
        wrap: titles of the columns whose text may be broken into lines.
        **options: of `rich.table.Table`.
    """
    table = Table(**options)
    for title in columns:
        table.add_column(title, no_wrap=title not in wrap, overflow="fold")
    return table


def print_table(table: Table):
    """Print a table, wider than the terminal if its whole cells ask for it."""
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
    """Cells as text, in which rich reads no markup."""
    return [rich.markup.escape(str(cell)) for cell in cells]
