"""The network of a SavedModel: one function of pixels to all that signatures need."""

from ..forms import Form
from ..graph.build import find_vit, float32_copy, inference_graph

SERVED = Form(rows=True)


def serving_body(model, preprocessing, images, outputs):
    """The function, and what a report says of it.

    Arguments:
        model: a checked Keras model.
        preprocessing: `vit_keras.Preprocessing` to put inside, or None.
        images: (N, H, W, C), to prove the rewrites on.
        outputs: of "output", "tokens", "pooled" and "attention".

    Returns:
        (function from float32 pixels to a dict, names of rewrites, notes).

    Raises:
        ValueError: only a classifying ViT has what is wanted.
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
    """The model with what is inside it; not rewritten, which changes the tokens."""
    import keras
    from keras import ops

    copy = float32_copy(model)
    names = [layer.name for layer in copy.layers]
    blocks = [
        copy.get_layer(name) for name in names if name.startswith("encoderblock_")
    ]
    last = copy.get_layer("encoder_norm") if "encoder_norm" in names else blocks[-1]
    wanted = {"output": copy.output, "tokens": last.output, "pooled": copy.output}
    if "head" in names:
        wanted["pooled"] = copy.get_layer("head").input
    for i, block in enumerate(blocks):
        wanted[f"block_{i}"] = block.input
    probe = keras.Model(copy.input, wanted)

    def function(pixels):
        if preprocessing is not None:
            scale, offset = preprocessing.scale_and_offset()
            pixels = pixels * scale.astype("float32") + offset.astype("float32")
        found = probe(pixels, training=False)
        if "attention" in outputs:
            scores = [
                block(found[f"block_{i}"], training=False, return_attention_scores=True)
                for i, block in enumerate(blocks)
            ]
            found["attention"] = ops.stack([score for _, score in scores], 1)
        return {name: found[name] for name in ("output", *outputs)}

    return function
