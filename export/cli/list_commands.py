"""`vit-export targets` and `schemes`: the tables, without loading a backend."""

from vit_keras.cli.tables import escaped, new_table, print_table


def list_targets():
    """List the target devices, their schemes, and the tool that checks a file."""
    from ..targets import TARGETS

    wrap = ("device", "schemes, the recommended one first")
    table = new_table("name", *wrap, "checked by", wrap=wrap)
    for name, row in TARGETS.items():
        facts = (name, row.summary, ", ".join(row.schemes), row.checker)
        table.add_row(*escaped(*facts))
    print_table(table)


def list_schemes():
    """List the quantisation schemes and their parity thresholds."""
    from ..schemes import SCHEMES

    wrap = ("use", "activations", "why this threshold")
    table = new_table(
        *("name", "use", "weights", "activations", "min. SQNR", "why this threshold"),
        wrap=wrap,
    )
    for name, row in SCHEMES.items():
        least = f"{row.min_sqnr_db:g} dB"
        facts = (name, row.summary, row.weights, row.activations, least, row.reason)
        table.add_row(*escaped(*facts))
    print_table(table)
