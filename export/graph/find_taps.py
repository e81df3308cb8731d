"""The blocks whose tokens a decoder reads, and its first linear layers.

They are found by their place in the graph, whatever the decoder: linear layers that
read nothing but the patches of some blocks. What is behind them is run as it was.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from vit_keras.layers import EncoderBlock, LayerNormalization, PatchTokens

from .source_model import in_float32, nodes_of
from .vit_weights import Linear, Reader


@dataclasses.dataclass(frozen=True)
class Taps:
    """What a model reads of the blocks of its ViT, and what it computes from that.

    Attributes:
        norm: the layer norm that these tokens pass; None for none.
        readers: the linear layers that read them.
        tail: function from the results of the readers, a list, and the model's input
            to the model's output.
    """

    norm: Any
    readers: list[Reader]
    tail: Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """A tensor that holds tokens of blocks side by side, normed by a layer or not."""

    blocks: tuple[int, ...]
    norm: Any = None
    skipped: int = 0


def find_taps(model: Any) -> Taps:
    """Find the taps of a functional model that holds the layers of a ViT.

    Raises:
        ValueError: its blocks do not follow each other, as where queries join the
            tokens between two; or the taps pass different norms.
    """
    found = _tokens(model)
    if len({tokens.norm for tokens in found.values()} - {None}) > 1:
        raise ValueError("`model` has several norms of the tokens of blocks")
    norm = next((t.norm for t in found.values() if t.norm is not None), None)
    taps = {key: t for key, t in found.items() if t.norm is norm}
    dense = [
        node
        for node in nodes_of(model)
        if type(node.operation) is keras.layers.Dense
        and id(node.input_tensors[0]) in taps
    ]
    try:
        if not dense:
            raise ValueError("no linear layer reads the tokens")
        return _behind_dense(model, norm, taps, dense)
    except ValueError:  # something else reads the tokens, too
        return _behind_tokens(model, norm, found)


def _tokens(model) -> dict[int, _Tokens]:
    """{id of a tensor: the tokens it holds}, of all tensors with nothing else."""
    found: dict[int, _Tokens] = {}
    last, number = None, 0
    for node in nodes_of(model):
        layer, inputs = node.operation, node.input_tensors
        if isinstance(layer, EncoderBlock):
            if number and inputs[0] is not last:
                raise ValueError("`model` has blocks that do not follow each other")
            last, now = node.outputs[0], _Tokens((number,))
            number += 1
        elif not inputs or any(id(x) not in found for x in inputs):
            continue
        else:
            now = _moved(layer, [found[id(x)] for x in inputs])
        if now is not None:
            found[id(node.outputs[0])] = now
    return found


def _moved(layer, inputs: list[_Tokens]) -> _Tokens | None:
    """The tokens in the output of a layer; None if it computes something else."""
    first = inputs[0]
    if isinstance(layer, PatchTokens):
        skipped = first.skipped + layer.num_prefix_tokens
        return dataclasses.replace(first, skipped=skipped)
    if isinstance(layer, LayerNormalization) and first == _Tokens(first.blocks[:1]):
        return dataclasses.replace(first, norm=layer)
    if isinstance(layer, keras.layers.Concatenate) and layer.axis in (-1, 2):
        blocks = tuple(b for tokens in inputs for b in tokens.blocks)
        joined = dataclasses.replace(first, blocks=blocks)
        same = all(
            dataclasses.replace(tokens, blocks=blocks) == joined for tokens in inputs
        )
        return joined if same else None
    return None


def _behind_dense(model, norm, taps, dense) -> Taps:
    """Divide a model behind linear layers; ValueError if its end needs more."""
    behind: Any = in_float32(
        keras.Model([node.outputs[0] for node in dense], model.outputs[0])
    )
    readers = []
    for node in dense:
        tokens = taps[id(node.input_tensors[0])]
        linear = Linear.of(node.operation)
        readers.append(Reader(tokens.blocks, tokens.skipped, linear))

    def tail(outputs, images):
        pairs = zip(dense, outputs, strict=True)
        return behind(*(node.operation.activation(x) for node, x in pairs))

    return Taps(norm, readers, tail)


def _behind_tokens(model, norm, found) -> Taps:
    """Divide a model behind the norm of each tap, or behind the blocks."""
    width = model.get_layer("embedding").hidden_size
    nodes = nodes_of(model)
    others = [n for n in nodes if not isinstance(n.operation, EncoderBlock)]
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
            readers.append(Reader(tokens.blocks, 0, same))
    behind: Any = in_float32(keras.Model(tensors, model.outputs[0]))
    return Taps(norm, readers, lambda outputs, images: behind(*outputs))
