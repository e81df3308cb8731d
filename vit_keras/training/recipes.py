"""The table of recipes, each with its source and reference result."""

from typing import Any

from .dense_recipes import DENSE_RECIPES
from .recipe import Recipe, ReferenceResult

_FOLDER = "vit-keras train --recipe {} --data FOLDER --out RUN"
_WEIGHTS = "vit-keras train --recipe {} --weights CHECKPOINT --data FOLDER --out RUN"
# 3,068 to train on; the backbone has DINOv2's architecture, 22 M weights.
_CLOTHES = "clothing-dataset-small, 372 test photographs, from a ViT-S/14"
_UNRUN = "figures of the paper; not repeated by this package"

_CIFAR = {
    "image_size": 32,
    "patch_size": 4,
    "num_heads": 4,
    "pooling": "gap",
    "positions": "sincos2d",
}

# 4.0 M weights. Input from pixels in memory: about 9,000 images/s and core.
_CIFAR_GPU = Recipe(
    model={
        **_CIFAR,
        "num_layers": 9,
        "hidden_size": 192,
        "num_heads": 6,
        "mlp_dim": 768,
        "drop_path_rate": 0.1,
    },
    epochs=300,
    batch_size=512,
    optimizer="muon",
    learning_rate=3e-3,
    beta2=0.99,
    weight_decay=0.1,
    randaugment=2,
    magnitude=0.5,
    erase=0.25,
    mixup=0.8,
    cutmix=1.0,
    ema=0.999,
    validation_split=0.02,
)

RECIPES: dict[str, Recipe] = {
    "digits": Recipe(
        model={
            "image_size": 32,  # 8 x 8 enlarged, for shifts of half a pixel
            "patch_size": 8,
            "num_layers": 4,
            "hidden_size": 64,
            "num_heads": 4,
            "mlp_dim": 128,
            "pooling": "gap",  # with fixed positions: better on small data
            "positions": "sincos2d",
        },
        epochs=60,
        optimizer="muon",
        learning_rate=3e-3,
        shift=0.0625,
        flip=False,
        reference=ReferenceResult(
            data="digits of scikit-learn, 359 of 1,797 held out",
            accuracy="98.5, mean of seeds 0, 1, 2 (98.3, 98.6, 98.6)",
            hardware="2 CPU cores, 1 minute",
            command="vit-keras train --data digits --out RUN",
        ),
    ),
    "cifar10_cpu": Recipe(
        model={**_CIFAR, "num_layers": 6, "hidden_size": 128, "mlp_dim": 256},
        epochs=5,
        batch_size=128,
        optimizer="muon",
        learning_rate=3e-3,
        beta2=0.99,
        label_smoothing=0.0,
        precision="mixed_bfloat16",  # 1.3 times faster on a CPU with AVX512-BF16
        validation_split=0.02,
        reference=ReferenceResult(
            data="CIFAR-10 (JPEG) from scratch, 10,000 test images",
            accuracy="70.7, seed 0",
            hardware="2 CPU cores, 11 minutes",
            command=_FOLDER.format("cifar10_cpu"),
        ),
    ),
    "cifar10": _CIFAR_GPU.replace(
        reference=ReferenceResult(
            paper="2112.13492",  # source of the regularisation
            data="CIFAR-10 from scratch",
            accuracy="not yet measured; to reach 92",
            hardware="one GPU, KERAS_BACKEND=jax; time not yet measured",
            command=_FOLDER.format("cifar10"),
        ),
    ),
    "cifar100": _CIFAR_GPU.replace(
        reference=ReferenceResult(
            paper="2112.13492",
            data="CIFAR-100 from scratch",
            accuracy="not yet measured",
            hardware="one GPU, KERAS_BACKEND=jax; time not yet measured",
            command=_FOLDER.format("cifar100"),
        ),
    ),
    "folder": Recipe(
        reference=ReferenceResult(
            data="a first recipe for any folder of photographs, from scratch",
            command=_FOLDER.format("folder"),
        ),
    ),
    "finetune": Recipe(
        preset=None,  # the architecture and settings of --weights
        epochs=10,
        batch_size=32,
        # Layer-wise rates and AdamW as BEiT (arXiv 2106.08254, table 9) and MAE (arXiv
        # 2111.06377, table 9) fine-tune; their 1e-3 for 1,024 images, by the root of
        # the batch size.
        learning_rate=2e-4,
        layer_decay=0.75,
        warmup=0.1,
        weight_decay=0.05,
        ema=0.99,
        crop=0.35,  # less than the 0.08 of training from scratch: small data
        shift=0.0,
        reference=ReferenceResult(
            paper="2106.08254",
            data=_CLOTHES,
            accuracy="91.1, seed 0; in int8 90.6",
            hardware="2 CPU cores, 40 CPU minutes",
            command=_WEIGHTS.format("finetune")
            + " --image-size 168 --freeze 6 --epochs 4",
        ),
    ),
    "linear_probe": Recipe(
        preset=None,
        freeze="backbone",
        probe_rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
        epochs=60,
        batch_size=64,
        warmup=0.0,
        weight_decay=0.01,
        label_smoothing=0.0,
        shift=0.0,
        reference=ReferenceResult(
            paper="2111.06377",  # section 4.1: frozen, standardised features
            data=_CLOTHES,
            accuracy="84.1, seed 0; in int8 83.1",
            hardware="2 CPU cores, 11 CPU minutes",
            command=_WEIGHTS.format("linear_probe") + " --image-size 168",
        ),
    ),
    **DENSE_RECIPES,
    "augreg_finetune": Recipe(
        preset="vit_b16",
        model={"image_size": 384},
        weights="vit_b16_augreg_in21k",
        steps=20_000,
        batch_size=512,
        optimizer="sgd",
        learning_rate=0.03,
        warmup=0.025,  # 500 steps
        weight_decay=0.0,
        clip_norm=1.0,
        label_smoothing=0.0,
        crop=0.05,
        shift=0.0,
        validation_split=0.01,
        reference=ReferenceResult(
            paper="2106.10270",
            data="ImageNet-1k from ImageNet-21k weights, 384 px",
            accuracy=f"85.49 ({_UNRUN}); 500 steps are enough for small data",
            hardware="TPU",
            command=_FOLDER.format("augreg_finetune"),
        ),
    ),
    "better_plain_vit": Recipe(
        preset="vit_s16",
        model={"pooling": "gap", "positions": "sincos2d"},
        epochs=90,
        batch_size=1024,
        learning_rate=1e-3,
        warmup=0.089,  # 10,000 of 112,590 steps
        weight_decay=0.1,  # 1e-4 in the source, where the rate is not a factor
        label_smoothing=0.0,
        crop=0.05,
        shift=0.0,
        randaugment=2,
        magnitude=1.0,  # level 10 of 10
        mixup=0.2,
        validation_split=0.01,
        reference=ReferenceResult(
            paper="2205.01580",
            data="ImageNet-1k from scratch, 224 px",
            accuracy=f"76.5 ({_UNRUN})",
            hardware="TPU v3-8, 6 to 7 hours",
            command=_FOLDER.format("better_plain_vit"),
        ),
    ),
    "deit": Recipe(
        preset="vit_s16",
        model={"drop_path_rate": 0.1},
        epochs=300,
        batch_size=1024,
        learning_rate=1e-3,
        warmup=5 / 300,
        clip_norm=None,
        crop=0.08,
        shift=0.0,
        randaugment=2,
        magnitude=0.9,
        erase=0.25,
        mixup=0.8,
        cutmix=1.0,
        repeats=3,
        validation_split=0.01,
        reference=ReferenceResult(
            paper="2012.12877",
            data="ImageNet-1k from scratch, 224 px",
            accuracy=f"79.8 ({_UNRUN}); 81.2 with preset deit_s16 and a teacher",
            hardware="8 V100; the paper: 53 hours for the B size",
            command=_FOLDER.format("deit"),
        ),
    ),
    "deit3": Recipe(
        preset="vit_s16",
        model={"drop_path_rate": 0.05, "layer_scale_init_value": 1e-4},
        epochs=800,
        batch_size=2048,
        optimizer="lamb",
        learning_rate=4e-3,
        warmup=5 / 800,
        weight_decay=0.05,
        loss="sigmoid",
        label_smoothing=0.0,
        crop=0.08,
        shift=0.0,
        three_augment=True,
        mixup=0.8,
        cutmix=1.0,
        repeats=3,
        validation_split=0.01,
        reference=ReferenceResult(
            paper="2204.07118",
            data="ImageNet-1k from scratch, 224 px",
            accuracy=f"81.4 ({_UNRUN})",
            hardware="GPU",
            command=_FOLDER.format("deit3"),
        ),
    ),
}
"""Recipes by name, for `train`; `vit-keras recipes` prints them."""


def default_recipe(data: Any, weights: Any, task: str = "classify") -> str:
    """Return the name of the recipe for data, trained from scratch or from weights."""
    if task != "classify":
        return task
    if weights is not None:
        return "finetune"
    return "digits" if isinstance(data, str) and data == "digits" else "folder"
