"""Where a file is to run, and what that place can take. A table, as `schemes`."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of device.

    Arguments:
        summary: what it is, in a line.
        schemes: names of the schemes that run there; the first is advised.
        integer_only: whether every tensor between input and output must be integer.
    """

    summary: str
    schemes: tuple[str, ...]
    integer_only: bool = False


TARGETS: dict[str, Target] = {
    "cpu": Target(
        summary="LiteRT on a CPU with XNNPACK",
        schemes=(
            *("dynamic_int8", "float32", "float16", "weight_only_int8"),
            *("dynamic_int4", "int8", "int8_attention16", "int16x8"),
        ),
    ),
    "npu": Target(
        summary="any accelerator without floating-point units",
        schemes=("int8", "int8_attention16"),
        integer_only=True,
    ),
}


def get_target(name: str) -> Target:
    """A row of the table.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in TARGETS:
        raise ValueError(
            f"`target` must be one of {', '.join(TARGETS)}. Received: target={name!r}"
        )
    return TARGETS[name]
