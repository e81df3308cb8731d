"""Tables in which names can be read and copied, however narrow the terminal is."""

import rich.console
import rich.markup
import rich.measure
import rich.table


def new_table(*columns: str, names: int = 1, **options) -> rich.table.Table:
    """A table whose first `names` columns, names and files, are never cut or wrapped.

    Arguments:
        columns: their titles.
        names: how many of them hold what is copied.
        **options: of `rich.table.Table`.
    """
    table = rich.table.Table(**options)
    for number, title in enumerate(columns):
        table.add_column(title, no_wrap=number < names, overflow="fold")
    return table


def print_table(table: rich.table.Table):
    """Print a table, wider than the terminal if its names ask for it."""
    console = rich.console.Console()
    unlimited = console.options.update(max_width=10_000)
    needed = rich.measure.Measurement.get(console, unlimited, table).minimum
    console.width = max(console.width, needed)
    console.print(table)


def escaped(*cells) -> list[str]:
    """Cells as text, in which rich reads no markup."""
    return [rich.markup.escape(str(cell)) for cell in cells]
