"""How one computation is written, where runtimes differ in what they take or like."""

import dataclasses

# How to write GELU -> what an exact file can reach with it, in dB.
GELUS = {"builtin": 120.0, "tanh": 60.0}


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to write the inference graph.

    Arguments:
        split_softmax: divide by the root of the sum before and after the product with
            the values, `((e / sqrt(s)) @ v) / sqrt(s)`, instead of by the sum before
            it: what int8 holds then has less range than a softmax.
        gelu: "builtin" is one operator; "tanh" writes its tanh form (Hendrycks and
            Gimpel, arXiv 1606.08415) in elementary operators, for runtimes that lack
            it: about 74 dB for models with the exact one.
        heads_apart: every head by itself, in rank 3: one head's scores at a time need
            less memory than all.
        keys_as_rows: keys are moved as values are, and read transposed by the product
            with the queries, which the runtime does faster than a transposition.
        columns_as_channels: patches as a convolution over rows only, the pixels of a
            patch's row being channels: integer kernels are slow on three channels.
        convolutions: linear layers as 1x1 convolutions of rank 4, for GPU delegates,
            which take no integer products of another rank.
        rows: linear layers as products of two matrices, the tokens of all images as
            rows: of an unknown number of images the sizes are not computed each time.
    """

    split_softmax: bool = False
    gelu: str = "builtin"
    heads_apart: bool = False
    keys_as_rows: bool = False
    columns_as_channels: bool = False
    convolutions: bool = False
    rows: bool = False

    def __post_init__(self):
        if self.gelu not in GELUS:
            raise ValueError(
                f"`gelu` must be one of {', '.join(GELUS)}. Received: {self.gelu!r}"
            )

    @property
    def reachable_db(self) -> float:
        """The SQNR that may be demanded of the most exact scheme."""
        return GELUS[self.gelu]
