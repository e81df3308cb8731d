"""The rows of `RECIPES` for outputs at each pixel."""

from .recipe import Recipe, ReferenceResult

_DENSE = "vit-keras train --task {}{} --weights CHECKPOINT --data FOLDER --out RUN"

# Of a decoder on a frozen backbone.
_FROZEN = Recipe(
    preset=None,
    freeze="backbone",
    epochs=16,
    batch_size=16,
    warmup=0.0,
    weight_decay=0.01,
    label_smoothing=0.0,
    shift=0.0,
)

DENSE_RECIPES: dict[str, Recipe] = {
    "segment": Recipe(
        preset=None,
        epochs=30,
        batch_size=16,
        # Rates and decays of EoMT's table of settings; the range of scales is that of
        # most: Segmenter (arXiv 2105.05633, section 4.1), SETR, mmsegmentation.
        learning_rate=1e-4,
        layer_decay=0.8,
        warmup=0.1,
        weight_decay=0.05,
        label_smoothing=0.0,
        scale=(0.5, 2.0),
        shift=0.0,
        reference=ReferenceResult(
            paper="2503.19108",
            data="photographs with masks, from weights",
            accuracy="not yet measured",
            command=_DENSE.format("segment", ""),
        ),
    ),
    "segment_probe": _FROZEN.replace(
        learning_rate=2e-3,
        reference=ReferenceResult(
            paper="2304.07193",  # section 7.4: frozen, a linear layer on four blocks
            data="CamVid, 11 classes, 233 test photographs, from a ViT-S/14",
            accuracy="mean IoU 46.9, seed 0",
            hardware="2 CPU cores, 7 CPU minutes",
            command=_DENSE.format("segment", " --recipe segment_probe")
            + " --image-size 252x336",
        ),
    ),
    "depth": _FROZEN.replace(
        learning_rate=1e-3,
        reference=ReferenceResult(
            paper="2304.07193",  # section 7.4
            data="photographs with maps of distances, from weights",
            accuracy="not yet measured",
            command=_DENSE.format("depth", ""),
        ),
    ),
}
