"""The blocks whose tokens a decoder reads, and its first linear layers.

They are found by their place in the graph, whatever the decoder: linear layers that
read nothing but the patches of some blocks. What is behind them is run as it was.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from vit_keras.layers import (
    ClassToken,
    EncoderBlock,
    FirstTokens,
    LayerNormalization,
    PatchTokens,
    Readout,
    TokenMerging,
)

from .source_model import in_float32, nodes_of
from .vit_weights import Linear, Queries, Reader


@dataclasses.dataclass(frozen=True)
class FoundTaps:
    """What a model reads of the blocks of its ViT, and what it computes from that.

    Attributes:
        norm: the layer norm that these tokens pass; None for none.
        readers: the linear layers that read them.
        queries: tokens that join before one of the blocks, or None.
        tail: function from the results of the readers, a list, and the model's input
            to the model's output.
    """

    norm: Any
    readers: list[Reader]
    queries: Queries | None
    tail: Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """A tensor that holds tokens of blocks side by side, normed by a layer or not, and
    beside each of them perhaps the token `beside`."""

    blocks: tuple[int, ...]
    norm: Any = None
    start: int = 0
    stop: int | None = None
    beside: int | None = None

    @property
    def whole(self) -> bool:
        """Whether no token behind `start` is left out or beside others."""
        return self.stop is None and self.beside is None


def find_taps(model: Any) -> FoundTaps:
    """Find the taps of a functional model that holds the layers of a ViT.

    Raises:
        ValueError: its blocks do not follow each other; or the taps pass different
            norms.
    """
    found, queries = _tokens(model)
    if len({tokens.norm for tokens in found.values()} - {None}) > 1:
        raise ValueError("`model` has several norms of the tokens of blocks")
    norm = next((t.norm for t in found.values() if t.norm is not None), None)
    taps = {key: t for key, t in found.items() if t.norm is norm}
    try:
        readers, tail = _behind_dense(model, taps)
    except ValueError:  # something else reads the tokens, too
        readers, tail = _behind_tokens(model, norm, found)
    return FoundTaps(norm, readers, queries, tail)


def _tokens(model) -> tuple[dict[int, _Tokens], Queries | None]:
    """{id of a tensor: the tokens it holds}, of all tensors with nothing else; and the
    queries."""
    found: dict[int, _Tokens] = {}
    last, number, queries = None, 0, None
    for node in nodes_of(model):
        layer, inputs = node.operation, node.input_tensors
        if _is_block(layer):
            if number and inputs[0] is not last:
                raise ValueError("`model` has blocks that do not follow each other")
            last, now = node.outputs[0], _Tokens((number,))
            number += 1
        elif isinstance(layer, TokenMerging) and number and inputs[0] is last:
            last, now = node.outputs[0], None
        elif isinstance(layer, ClassToken) and number and inputs[0] is last:
            if queries is not None:
                raise ValueError("`model` has queries that join more than once")
            last, now = node.outputs[0], None
            queries = Queries(number, np.asarray(layer.token, "float64")[0])
        elif not inputs or any(id(x) not in found for x in inputs):
            continue
        else:
            now = _moved(layer, [found[id(x)] for x in inputs])
        if now is not None:
            found[id(node.outputs[0])] = now
    return found, queries


def _is_block(layer):
    """Whether a layer is a block of the ViT, and none of a decoder."""
    return isinstance(layer, EncoderBlock) and layer.name.startswith("encoderblock_")


def _moved(layer, inputs: list[_Tokens]) -> _Tokens | None:
    """The tokens in the output of a layer; None if it computes something else."""
    first = inputs[0]
    if isinstance(layer, Readout) and first.whole:
        start = first.start + layer.num_prefix_tokens
        return dataclasses.replace(first, start=start, beside=first.start)
    if isinstance(layer, PatchTokens) and first.whole:
        start = first.start + layer.num_prefix_tokens
        return dataclasses.replace(first, start=start)
    if isinstance(layer, FirstTokens) and first.whole:
        return dataclasses.replace(first, stop=first.start + layer.number)
    if isinstance(layer, LayerNormalization) and first == _Tokens(first.blocks[:1]):
        return dataclasses.replace(first, norm=layer)
    if isinstance(layer, keras.layers.Concatenate) and layer.axis in (-1, 2):
        blocks = tuple(b for tokens in inputs for b in tokens.blocks)
        joined = dataclasses.replace(first, blocks=blocks)
        alike = {dataclasses.replace(tokens, blocks=blocks) for tokens in inputs}
        return joined if alike == {joined} and joined.beside is None else None
    return None


def _behind_dense(model, taps):
    """Divide a model behind the linear layers that read its taps.

    Returns:
        The readers and the tail.

    Raises:
        ValueError: there are none, or the end of the model needs more than theirs.
    """
    dense, each = [], []
    for node in nodes_of(model):
        tokens = taps.get(id(_tokens_of_map(node.input_tensors)))
        if type(node.operation) is keras.layers.Dense and tokens is not None:
            dense.append(node)
            each.append(_readers(tokens, Linear.of(node.operation)))
    ends = [node.outputs[0] for node in dense]
    behind: Any = in_float32(keras.Model(ends, model.outputs[0]))

    def tail(outputs, images):
        left, results = iter(outputs), []
        for node, own in zip(dense, each, strict=True):
            x, *more = (next(left) for _ in own)
            for part in more:
                x = x + part
            x = keras.ops.reshape(x, (-1, *node.outputs[0].shape[1:]))
            results.append(node.operation.activation(x))
        return behind(*results)

    return [reader for own in each for reader in own], tail


def _tokens_of_map(tensors):
    """The tensor that a layer reads, before it was made a map of rows and columns."""
    if len(tensors) != 1:
        return None
    (tensor,) = tensors
    layer, index, _ = tensor._keras_history
    if not isinstance(layer, keras.layers.Reshape):
        return tensor
    (before,) = layer._inbound_nodes[index].input_tensors
    return before if before.shape[-1] == tensor.shape[-1] else tensor


def _readers(tokens: _Tokens, linear: Linear) -> list[Reader]:
    """The readers whose results add up to that of a linear layer."""
    blocks, start, stop = tokens.blocks, tokens.start, tokens.stop
    if tokens.beside is None:
        return [Reader(blocks, start, stop, linear)]
    # The one token is the same for all, which take its part as they take a bias.
    own, beside = np.split(np.asarray(linear.kernel), 2)
    rest = Linear(beside, np.zeros(beside.shape[1]))
    one = Reader(blocks, tokens.beside, tokens.beside + 1, rest)
    return [Reader(blocks, start, stop, Linear(own, linear.bias)), one]


def _behind_tokens(model, norm, found):
    """Divide a model behind the norm of each tap, or behind the blocks.

    Returns:
        The readers, which leave the tokens as they are, and the tail.
    """
    width = model.get_layer("embedding").hidden_size
    nodes = nodes_of(model)
    others = [node for node in nodes if not _is_block(node.operation)]
    read = {id(x) for node in others for x in node.input_tensors}
    read.add(id(model.outputs[0]))
    tensors, readers = [], []
    for tensor in (node.outputs[0] for node in nodes):
        tokens = found.get(id(tensor))
        if tokens is None or id(tensor) not in read:
            continue
        if tokens == _Tokens(tokens.blocks[:1], norm):
            tensors.append(tensor)
            same = Linear(np.eye(width), np.zeros(width))
            readers.append(Reader(tokens.blocks, 0, None, same))
    behind: Any = in_float32(keras.Model(tensors, model.outputs[0]))
    return readers, lambda outputs, images: behind(*outputs)
