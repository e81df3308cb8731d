"""A ViT whose layers were reused one by one in another functional model.

In `keras.Model(vit.input, keras.layers.Dense(5)(vit.layers[-2].output))` there is no
configuration, but it follows from the layers; the others are kept unchanged.
"""

import dataclasses
from typing import Any

import keras


@dataclasses.dataclass(frozen=True)
class Flat:
    """The parts of a model that `read_weights` needs, and what surrounds them.

    Attributes:
        config: inferred from the layers.
        layers: all layers of the model.
        front: from the model's input to the patches, or None if nothing is between.
        tail: from the tokens after the last norm (N, T, D) to the model's output.
    """

    config: Any
    layers: list[Any]
    front: Any
    tail: Any
    task: str = "features"
    name: str = "vit"


def find_flat(model) -> Flat | None:
    """Find the ViT of this package that a model is built around, or None.

    A model that reads the tokens between two blocks cannot be divided: None.
    """
    from vit_keras.layers import EncoderBlock, Patches

    layers: dict[str, Any] = {layer.name: layer for layer in model.layers}
    first, last = layers.get("embedding"), layers.get("encoder_norm")
    blocks = [layer for layer in model.layers if isinstance(layer, EncoderBlock)]
    names = [f"encoderblock_{i}" for i in range(len(blocks))]
    if not isinstance(first, Patches) or last is None or not blocks:
        return None
    if [block.name for block in blocks] != names:
        return None
    try:
        entry, tokens = _node(model, first).input_tensors, _node(model, last).outputs
        front = None
        if entry[0] is not model.inputs[0]:
            front = keras.Model(model.inputs[0], entry[0])
        tail = keras.Model(tokens[0], model.outputs[0])
        config = _config(layers, blocks[0], len(blocks), entry[0].shape)
    except (ValueError, KeyError):  # called twice, or of another structure
        return None
    return Flat(config, model.layers, front, tail)


def _node(model, layer):
    """Return the only call of a layer in a model; ValueError if there are more."""
    nodes = (node for level in model._nodes_by_depth.values() for node in level)
    (node,) = (node for node in nodes if node.operation is layer)
    return node


def _config(layers, block, number, shape):
    from vit_keras import ViTConfig

    first, positions = layers["embedding"], layers["posembed_input"]
    registers = layers.get("register_tokens")
    return ViTConfig(
        image_size=tuple(shape[1:3]),
        patch_size=first.patch_size,
        channels=shape[-1],
        num_layers=number,
        hidden_size=first.hidden_size,
        num_heads=block.num_heads,
        mlp_dim=block.mlp_dim,
        mlp_activation=block.mlp_activation,
        qk_norm=block.qk_norm,
        pre_norm="pre_norm" in layers,
        class_token="class_token" in layers,
        distillation_token="distillation_token" in layers,
        num_register_tokens=0 if registers is None else registers.num_tokens,
        positions=positions.kind,
        position_prefix=positions.num_prefix_tokens > 0,
        patch_norm=first.patch_norm,
        pooling=None,
        include_top=False,
    )
