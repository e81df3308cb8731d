"""`Recipe`: the settings of a training run as data; `recipes.py` has the table."""

import dataclasses
import difflib
from typing import Any

OPTIMIZERS = ("adamw", "lamb", "muon", "sgd")
LOSSES = ("softmax", "sigmoid")
CLASS_WEIGHTS = (None, "balanced")
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
DISTILLATIONS = ("hard", "soft")
# Fields that a linear probe does not use, so that a value in them would be lost.
UNPROBED = ("learning_rate", "steps", "accumulate", "layer_decay", "ema", "crop")
UNPROBED += ("randaugment", "three_augment", "erase", "mixup", "cutmix", "repeats")
UNPROBED += ("teacher", "patience")
# Arguments of `create_model` that are the data's, or a recipe's own fields.
NOT_OF_MODEL = ("classes", "labels", "activation", "include_top", "preset", "weights")


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
        freeze: "backbone" trains the head only; n freezes the first n blocks and all
            in front of them; None trains all.
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
            arXiv 2204.07118). Other heads have their own (`HEADS`).
        label_smoothing: in [0, 1); must be 0 for a regression.
        class_weights: "balanced" weights each image in the loss by N / (K n_c), for N
            images, K classes and n_c images of its class; None for equal weights.
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
        for name, least in (
            *(("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("repeats", 1)),
            *(("checkpoint_steps", 1), ("randaugment", 0), ("seed", 0)),
            *(("steps", 1), ("patience", 1)),
        ):
            self._check(name, int, lambda v, least=least: v >= least, f">= {least}")
        for name in ("learning_rate", "clip_norm", "layer_decay", "temperature"):
            self._check(name, (int, float), lambda v: v > 0, "above 0")
        for name in ("warmup", "label_smoothing", "shift", "validation_split", "beta2"):
            self._check(name, (int, float), lambda v: 0 <= v < 1, "in [0, 1)")
        for name in ("magnitude", "erase", "distillation_weight"):
            self._check(name, (int, float), lambda v: 0 <= v <= 1, "in [0, 1]")
        for name in ("ema", "crop"):
            self._check(name, (int, float), lambda v: 0 < v < 1, "in (0, 1)")
        for name in ("weight_decay", "mixup", "cutmix"):
            self._check(name, (int, float), lambda v: v >= 0, "not negative")
        for name, valid in (
            ("optimizer", OPTIMIZERS),
            ("loss", LOSSES),
            ("class_weights", CLASS_WEIGHTS),
            ("precision", PRECISIONS),
            ("distillation", DISTILLATIONS),
        ):
            if getattr(self, name) not in valid:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(map(str, valid))}. "
                    f"Received: {name}={getattr(self, name)!r}"
                )
        if not isinstance(self.model, dict):
            raise ValueError(
                "`model` must be a dict of arguments of `create_model`. "
                f"Received: model={self.model!r}"
            )
        for name in NOT_OF_MODEL:
            if name in self.model:
                raise ValueError(
                    f"`model` must not hold {name!r}: the data, or the recipe itself, "
                    f"gives it. Received: model={self.model!r}"
                )
        self._check_frozen()
        if self.patience is not None and not self.validation_split:
            raise ValueError(
                "`validation_split` must be above 0 when `patience` is set, which "
                "needs held-out images. Received: validation_split=0"
            )
        if self.layer_decay != 1 and self.optimizer != "adamw":
            raise ValueError(
                "`layer_decay` must be 1 unless the optimizer is adamw. Received: "
                f"layer_decay={self.layer_decay}, optimizer={self.optimizer!r}"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(
                "`batch_size` must be a multiple of `accumulate`. Received: "
                f"batch_size={self.batch_size}, accumulate={self.accumulate}"
            )

    def _check_frozen(self):
        if self.freeze != "backbone":
            words = '>= 0, "backbone" or None'
            self._check("freeze", int, lambda v: v >= 0, words)
        if self.probe_rates is None:
            return
        if isinstance(self.probe_rates, list):  # from JSON
            object.__setattr__(self, "probe_rates", tuple(self.probe_rates))
        rates = self.probe_rates
        if not isinstance(rates, tuple) or not rates or not all(map(_positive, rates)):
            raise ValueError(
                "`probe_rates` must be learning rates above 0, or None. Received: "
                f"probe_rates={rates!r}"
            )
        if self.freeze != "backbone":
            raise ValueError(
                "`freeze` must be 'backbone' when `probe_rates` are given. "
                f"Received: freeze={self.freeze!r}"
            )
        for name in UNPROBED:
            if getattr(self, name) != getattr(Recipe, name):
                raise ValueError(
                    f"`{name}` must be {getattr(Recipe, name)} with `probe_rates`: "
                    "heads see the features of whole images, with these rates. "
                    f"Received: {name}={getattr(self, name)!r}"
                )
        if not self.validation_split and len(rates) > 1:
            raise ValueError(
                "`validation_split` must be above 0 to choose one of several "
                "`probe_rates`. Received: validation_split=0"
            )

    def _check(self, name, kind, good, words):
        value = getattr(self, name)
        if value is None and name in OPTIONAL:
            return
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if not fits or not good(value):
            number = "an integer" if kind is int else "a number"
            raise ValueError(
                f"`{name}` must be {number} {words}. Received: {name}={value!r}"
            )

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
        fields = {RENAMED.get(k, k): v for k, v in data.items()}
        if "train_last" in fields:  # of release 0.1
            last = fields.pop("train_last")
            if last:
                raise ValueError(
                    f"`train_last={last}` of release 0.1 is `freeze` now: the number "
                    "of the model's other blocks"
                )
            fields["freeze"] = None if last is None else "backbone"
        return cls().replace(**fields)


def _positive(value):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and value > 0


RENAMED = {"promise": "reference"}  # fields of release 0.1
OPTIONAL = {
    field.name for field in dataclasses.fields(Recipe) if field.default is None
} | {"clip_norm"}
