"""A ViT of this package inside a model, and what the model computes around it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from .find_taps import find_taps
from .source_model import gives_dict, in_float32, nodes_of


@dataclasses.dataclass(frozen=True)
class Parts:
    """A model as a ViT with something before and behind it.

    Attributes:
        vit: what `read_weights` reads: a `VisionTransformer`, or layers of one.
        front: function from the model's input to the ViT's, or None for nothing.
        tail: function from the ViT's output and the model's input to the model's
            output, or {name: output}, or None for nothing.
        taps: what `read_weights` reads instead of what follows the last block; the
            ViT's output is then what the readers give. Or None.
    """

    vit: Any
    front: Callable[[Any], Any] | None
    tail: Callable[[Any, Any], Any] | None
    taps: Any = None

    def around(self, layer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The model with another layer in the ViT's place."""

        def function(images):
            inputs = images if self.front is None else self.front(images)
            outputs = layer(inputs)
            return outputs if self.tail is None else self.tail(outputs, images)

        return layer if self.front is None and self.tail is None else function


@dataclasses.dataclass(frozen=True)
class Flat:
    """Layers of a ViT that were taken into another model one by one.

    `keras.Model(vit.input, keras.layers.Dense(5)(vit.layers[-2].output))` knows no
    configuration, but its layers do.

    Attributes:
        config: read from the layers.
        layers: those of the whole model.
    """

    config: Any
    layers: list[Any]
    task: str = "features"
    name: str = "vit"


def find_vit(model: Any) -> Any:
    """Return the Vision Transformer of this package in a model.

    Returns:
        The model itself, a ViT nested in it, or None.
    """
    from vit_keras import VisionTransformer

    if isinstance(model, VisionTransformer) and model.config is not None:
        return model
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, keras.Model) and (vit := find_vit(layer)) is not None:
            return vit
    return None


def check_no_decoder(function: str, model: Any) -> None:
    """Refuse a ViT whose outputs come from several blocks, or through a decoder.

    Arguments:
        function: name of the one that does not take it.

    Raises:
        ValueError: `model` is such a `VisionTransformer`.
    """
    if _has_decoder(model):
        raise ValueError(
            f"`{function}` takes a model of task='classify', or 'features' of the last "
            f"block. Received: task={model.task!r}, taps={model.config.taps}"
        )


def _has_decoder(vit):
    if vit.task == "features":
        return len(vit.config.tap_blocks) > 1
    return vit.task != "classify"


def divide_at_vit(model: Any) -> Parts | None:
    """Divide a functional model around the ViT of this package in it.

    Returns:
        None if there is none, or the model reads its tokens between two blocks, or a
        subclassed model hides it.
    """
    vit = find_vit(model)
    try:
        return _find_flat(model) if vit is None else _divide(model, vit)
    except (ValueError, KeyError):  # called twice, or of a shape of its own
        return None


def _node(model, layer):
    """The one call of a layer that a model holds; ValueError if there are more."""
    (node,) = (node for node in nodes_of(model) if node.operation is layer)
    return node


def _divide(model, vit) -> Parts:
    """The parts of a model that holds the ViT, perhaps in a model in the model."""
    if model is vit:
        parts = Parts(vit, None, None)
        return _with_taps(parts, vit) if _has_decoder(vit) else parts
    layers = (node.operation for node in nodes_of(model))
    (holder,) = {
        id(layer): layer
        for layer in layers
        if isinstance(layer, keras.Model) and find_vit(layer) is vit
    }.values()
    node, inner = _node(model, holder), _divide(holder, vit)
    (output,) = node.outputs
    front, tail = _around(model, node.input_tensors[0], output)

    def whole_front(images):
        images = images if front is None else front(images)
        return images if inner.front is None else inner.front(images)

    def whole_tail(outputs, images):
        if inner.tail is not None:
            outputs = inner.tail(outputs, images if front is None else front(images))
        return outputs if tail is None else tail(outputs, images)

    return Parts(
        vit,
        None if front is None and inner.front is None else whole_front,
        None if tail is None and inner.tail is None else whole_tail,
        inner.taps,
    )


def _around(model, entry, output):
    """What a model computes before one of its tensors, and behind another."""
    front = tail = None
    if entry is not model.inputs[0]:
        front = in_float32(keras.Model(model.inputs[0], entry))
    if output is not _ends(model):
        try:
            behind = _behind(model, output)
            tail = lambda outputs, images: behind(outputs)  # noqa: E731
        except ValueError:  # it also reads the images
            tail = _behind(model, output, model.inputs[0])
    return front, tail


def _ends(model):
    """The output of a model, or {name: output}."""
    return model.output if gives_dict(model) else model.outputs[0]


def _behind(model, first, *others) -> Any:
    """The function from tensors inside a model to what it gives."""
    ends, inputs = _ends(model), [first, *others] if others else first
    if not isinstance(ends, dict):
        return in_float32(keras.Model(inputs, ends))
    # Keras has no model whose output is a tensor inside another that it begins with.
    rest = {name: end for name, end in ends.items() if end is not first}
    function = in_float32(keras.Model(inputs, rest)) if rest else lambda *_: {}

    def behind(values, *more):
        return dict.fromkeys(ends, values) | function(values, *more)

    return behind


def _find_flat(model) -> Parts | None:
    """The parts of a model that holds the layers of a ViT."""
    from vit_keras.layers import EncoderBlock, Patches

    layers: dict[str, Any] = {layer.name: layer for layer in model.layers}
    first, last = layers.get("embedding"), layers.get("encoder_norm")
    blocks = [layer for layer in model.layers if isinstance(layer, EncoderBlock)]
    names = [f"encoderblock_{i}" for i in range(len(blocks))]
    if not isinstance(first, Patches) or last is None or not blocks:
        return None
    if [block.name for block in blocks] != names or merges_by_similarity(model):
        return None
    (entry,) = _node(model, first).input_tensors
    front, _ = _around(model, entry, model.outputs[0])
    flat = Flat(_config(layers, blocks[0], len(blocks), entry.shape), model.layers)
    if gives_dict(model):
        behind = _behind(model, _node(model, last).outputs[0])
        return Parts(flat, front, lambda out, images: behind(out))
    return _with_taps(Parts(flat, front, None), model)


def merges_by_similarity(model: Any) -> bool:
    """Return whether a model holds blocks that merge tokens by `tome`."""
    layers = getattr(model, "layers", ())
    return any(getattr(x, "merged", 0) or merges_by_similarity(x) for x in layers)


def check_no_tome(argument: str, valid: str, model: Any) -> None:
    """Refuse a model that merges tokens by their similarity where only integers are.

    Arguments:
        argument: what is refused, as `name=value`.
        valid: what would be taken instead.

    Raises:
        ValueError: `model` is such a one, or holds it.
    """
    if merges_by_similarity(model):
        raise ValueError(
            f"{valid} for a model with `tome`: which tokens are similar has no integer "
            "form. `export.shrink(model, images, tokens=0.5)` merges tokens by a "
            f"linear layer, for every scheme and target. Received: {argument}"
        )


def _with_taps(parts: Parts, model) -> Parts:
    """The parts of a flat model, divided behind the first layers of its decoder."""
    taps = find_taps(model)
    return dataclasses.replace(parts, tail=taps.tail, taps=taps)


def _config(layers, block, number, shape):
    from vit_keras import ViTConfig

    first, positions = layers["embedding"], layers.get("posembed_input")
    registers, rotary = layers.get("register_tokens"), block.attention.rotary or {}
    return ViTConfig(
        image_size=tuple(shape[1:3]),
        patch_size=first.patch_size,
        channels=shape[-1],
        num_layers=number,
        hidden_size=first.hidden_size,
        num_heads=block.num_heads,
        mlp_dim=block.mlp_dim,
        mlp_activation=block.mlp_activation,
        mlp_out_activation=block.mlp_out_activation,
        qk_norm=block.qk_norm,
        pre_norm="pre_norm" in layers,
        class_token="class_token" in layers,
        distillation_token="distillation_token" in layers,
        num_register_tokens=0 if registers is None else registers.num_tokens,
        mlp_gated=block.mlp_gated,
        mlp_norm=block.mlp_norm,
        attention_norm=block.attention_norm,
        post_norm=block.post_norm,
        key_bias=block.key_bias,
        positions="none" if positions is None else positions.kind,
        position_prefix=positions is None or positions.num_prefix_tokens > 0,
        rotary=rotary.get("kind"),
        rotary_temperature=rotary.get("temperature"),
        rotary_grid=rotary.get("reference_grid"),
        patch_norm=first.patch_norm,
        token_merging=[
            (i, layers[name].factor)
            for i in range(number)
            if (name := f"token_merging_{i}") in layers
        ],
        pooling=None,
        include_top=False,
    )
