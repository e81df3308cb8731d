"""`Recipe`: the settings of a training run as data; `recipes.py` has the table."""

import dataclasses
import difflib
from typing import Any

from .recipe_checks import check_recipe


@dataclasses.dataclass(frozen=True)
class ReferenceResult:
    """The measured accuracy of a recipe, and the conditions.

    Arguments:
        paper: arXiv number, or the source of the figures.
        data: training and test data.
        accuracy: top-1 in words, with its conditions.
        hardware: hardware and duration.
        command: the whole command line.
    """

    paper: str = ""
    data: str = ""
    accuracy: str = ""
    hardware: str = ""
    command: str = ""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of a training run, apart from the data.

    Arguments:
        preset: name of the model size in `vit_keras.PRESETS`; None takes the whole
            architecture from `weights`.
        model: arguments of `create_model` that differ from the preset.
        weights: initial checkpoint, as in `create_model`, or None.
        freeze: "backbone" trains the head only, or the decoder, for which the tokens of
            each image, and of its mirror image, are computed once if nothing else is
            augmented; n freezes the first n blocks and all in front of them; None
            trains all.
        probe_rates: learning rates of a linear probe: the features of the frozen
            backbone are computed once, without augmentation but with each image's
            mirror image if `flip` is set; a head is trained on them with each rate,
            and the one of the best validation accuracy is kept. None trains as usual.
        epochs: passes over the training images.
        steps: optimizer steps of the whole run; overrides `epochs`.
        batch_size: images per optimizer step.
        accumulate: number of accumulation steps that a batch is computed in.
        optimizer: "adamw" (arXiv 1711.05101), "lamb" (arXiv 1904.00962), "muon" (arXiv
            2502.16982; AdamW for all but the matrices), or "sgd" with momentum 0.9.
        learning_rate: peak rate, after warm-up; falls to 0 as a cosine.
        warmup: fraction of all steps in which the rate rises from 0.
        weight_decay: decoupled, on kernels only.
        layer_decay: factor on the rate from each block to the one below it (BEiT,
            arXiv 2106.08254); for AdamW only.
        beta2: second decay rate of AdamW and LAMB, and of Muon's AdamW.
        clip_norm: limit of the global gradient norm, or None.
        ema: decay of an exponential moving average of the weights, which the run then
            validates and saves; None for none.
        loss: of the head "softmax": "softmax" cross-entropy, or "sigmoid" (binary,
            arXiv 2204.07118); of "segmentation": "softmax", "dice" (arXiv 1606.04797)
            or "softmax_dice", their sum. Other heads have their own (`HEADS`).
        label_smoothing: in [0, 1); must be 0 for a regression, and for maps.
        class_weights: "balanced" weights each image in the loss by N / (K n_c), for N
            images, K classes and n_c images of its class, and each pixel of a
            segmentation by median frequency (arXiv 1411.4734); None for equal weights.
        scale: (smallest, largest) random size of a photograph and its mask, on that
            which fits the input, of which the input shows a random part; for the head
            "segmentation", or None.
        crop: smallest fraction of the area of a random resized crop, or None.
        shift: largest random translation, as a fraction of the image's sides.
        flip: whether to mirror half of the images.
        randaugment: operations per image (arXiv 1909.13719); 0 for none.
        magnitude: their strength, in [0, 1].
        three_augment: apply one of grey, solarise and blur (arXiv 2204.07118).
        erase: probability of erasing a rectangle (arXiv 1708.04896).
        mixup: alpha of MixUp (arXiv 1710.09412); 0 for none.
        cutmix: alpha of CutMix (arXiv 1905.04899); 0 for none, and for a regression.
            With both, each batch gets one of them.
        repeats: copies of an image in a batch, augmented separately (arXiv 1902.05509).
        teacher: a `.keras` file to distil from, or None.
        distillation: "hard" or "soft" labels of the teacher (arXiv 2012.12877).
        distillation_weight: fraction of the teacher in the loss.
        temperature: of the soft labels.
        precision: of the computation; "auto" is bfloat16 on a GPU or TPU.
        validation_split: fraction of the training images held out for validation.
        patience: stop after this many validations without a better metric, and save
            the best weights; None trains to the end.
        checkpoint_steps: maximal number of steps between two checkpoints.
        seed: of weights, order and augmentation.
        reference: measured accuracy.

    Raises:
        ValueError: a value is out of range.
    """

    preset: str | None = "vit_ti16"
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: str | None = None
    freeze: int | str | None = None
    probe_rates: tuple[float, ...] | None = None
    epochs: int = 30
    steps: int | None = None
    batch_size: int = 64
    accumulate: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 5e-4
    warmup: float = 0.1
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    beta2: float = 0.999
    clip_norm: float | None = 1.0
    ema: float | None = None
    loss: str = "softmax"
    label_smoothing: float = 0.1
    class_weights: str | None = None
    scale: tuple[float, float] | Any = None
    crop: float | None = None
    shift: float = 0.125
    flip: bool = True
    randaugment: int = 0
    magnitude: float = 0.3
    three_augment: bool = False
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    repeats: int = 1
    teacher: str | None = None
    distillation: str = "hard"
    distillation_weight: float = 0.5
    temperature: float = 1.0
    precision: str = "auto"
    validation_split: float = 0.1
    patience: int | None = None
    checkpoint_steps: int = 1000
    seed: int = 0
    reference: ReferenceResult = ReferenceResult()

    def __post_init__(self):
        if isinstance(self.reference, dict):
            result = ReferenceResult(**self.reference)
            object.__setattr__(self, "reference", result)
        for name in ("probe_rates", "scale"):
            if isinstance(getattr(self, name), list):  # from JSON
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_recipe(self)

    def replace(self, **changes: Any) -> "Recipe":
        """Return a copy with some fields changed; unknown names raise a ValueError."""
        valid = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in valid:
                close = difflib.get_close_matches(name, valid, n=1)
                hint = f" Did you mean `{close[0]}`?" if close else ""
                raise ValueError(
                    f"`{name}` is not a field of a recipe.{hint} "
                    f"Valid fields: {', '.join(valid)}"
                )
        return dataclasses.replace(self, **changes)

    def model_arguments(self, outputs: int, head: str = "softmax") -> dict[str, Any]:
        """Return the arguments of `create_model` for a number of outputs."""
        given = {"classes": outputs, "head": head, "activation": "linear"}
        if head == "depth":
            given["activation"] = "softplus"  # distances are above 0
        return {
            "preset": self.preset,
            "weights": self.weights,
            **self.model,
            **given,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Recipe":
        """Build the recipe that `to_dict` described, also of an earlier release.

        Raises:
            ValueError: unknown fields, or a value is out of range.
        """
        if not isinstance(data, dict):
            raise ValueError(f"a recipe must be fields and values. Received: {data!r}")
        fields = {RENAMED.get(k, k): v for k, v in data.items()}
        if "train_last" in fields:  # of release 0.1
            last = fields.pop("train_last")
            if last:
                raise ValueError(
                    f"`train_last={last}` of release 0.1 is `freeze` now: the number "
                    "of the model's other blocks"
                )
            fields["freeze"] = None if last is None else "backbone"
        try:
            return cls().replace(**fields)
        except (TypeError, AttributeError, OverflowError) as error:  # of other types
            raise ValueError(f"a field has a value of another type: {error}") from error


RENAMED = {"promise": "reference"}  # fields of release 0.1
