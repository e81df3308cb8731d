"""The network of a SavedModel: one function of pixels for all signatures."""

from ..graph.build import inference_graph
from ..graph.find_vit import find_vit
from ..graph.found_vit import normalised
from ..graph.source_model import float32_policies
from ..targets import GraphOptions

SERVED = GraphOptions(flat_tokens=True)


def serving_network(model, preprocessing, images, outputs):
    """Build the network's function, with facts for the report.

    Arguments:
        model: a checked Keras model.
        preprocessing: `vit_keras.Preprocessing` to include, or None.
        images: (N, H, W, C), for checking the rewrites.
        outputs: names among "output", "tokens", "pooled" and "attention".

    Returns:
        (function from float32 pixels to a dict, names of rewrites, notes).

    Raises:
        ValueError: other outputs than "output" need a classifying ViT.
    """
    if set(outputs) <= {"output"}:
        graph = inference_graph(model, preprocessing, images, SERVED, integers=False)
        return (
            lambda pixels: {"output": graph.function(pixels)},
            graph.rewrites,
            graph.notes,
        )
    if find_vit(model) is not model or model.task != "classify":
        raise ValueError(
            "`signatures` with features or attention need a classifying ViT of "
            f"`vit_keras.create_model`. Received: {model.name!r}"
        )
    return _inside(model, preprocessing, outputs), (), ()


def _inside(model, preprocessing, outputs):
    """Return the model with inner outputs; not rewritten, which changes the tokens."""
    import keras
    from keras import ops

    layers = {layer.name: layer for layer in model.layers}
    blocks = [
        layer for name, layer in layers.items() if name.startswith("encoderblock")
    ]
    top = {"output": model.output}
    if "head" in layers:
        top["pooled"] = layers["head"].input
    if "encoder_norm" in layers:  # else the norm is after pooling
        top["tokens"] = layers["encoder_norm"].output
    scored = "attention" in outputs
    front = keras.Model(model.input, blocks[0].input)
    tail = keras.Model(blocks[-1].output, top)

    def function(images):
        with float32_policies(model):
            return compute(images)

    def compute(images):
        x, scores = front(images, training=False), []
        for block in blocks:
            x = block(x, training=False, return_attention_scores=scored)
            if scored:  # scores cost memory, and the slower attention
                x, score = x
                scores.append(score)
        found = tail(x, training=False)
        found = {"tokens": x, "pooled": found["output"], **found}
        if scored:
            found["attention"] = ops.stack(scores, 1)
        return {name: found[name] for name in ("output", *outputs)}

    return normalised(function, preprocessing)
