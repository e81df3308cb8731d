"""Table of published weights, one file per row, with sources.

AugReg has thousands of files. On ImageNet-21k, and at 384 px, these are the ones that
its paper recommends (table 3, column i21k_300; accuracies in the README of
google-research/vision_transformer; B/8 in big_vision's `models/vit.py`). At 224 px they
are those that timm 1.0.31 uses and has measured (`timm/models/vision_transformer.py`).
The URLs of DeiT are in `timm/models/deit.py`.
"""

import dataclasses

from ..preprocessing import NORMALISATIONS, Preprocessing


@dataclasses.dataclass(frozen=True)
class Published:
    """One published file.

    Arguments:
        url: of the authors.
        layout: name of the layout of its arrays.
        preset: the size, a name in `vit_keras.presets.PRESETS`.
        image_size: height and width in pixels of its training.
        classes: 1000 (ImageNet-1k), or 21843 (ImageNet-21k).
        top1: top-1 accuracy on ImageNet-1k's validation set in percent; None if the
            file has other classes, or no value is published for this very file.
        top1_source: source of `top1`.
        licence: SPDX name.
        paper: arXiv number.
        sha256: hexadecimal digest in lower case, or its first digits if only these are
            published; None if nothing is.
        preprocessing: of timm's evaluation.
    """

    url: str
    layout: str
    preset: str
    image_size: int
    classes: int
    top1: float | None
    top1_source: str | None
    licence: str
    paper: str
    sha256: str | None
    preprocessing: Preprocessing


_GOOGLE = "https://storage.googleapis.com/vit_models"
_META = "https://dl.fbaipublicfiles.com/deit"
_LONG = {"ti": "tiny", "s": "small", "b": "base", "l": "large"}

# timm's results/results-imagenet.csv at commit 0173a13, and the row's name
_TIMM = "timm 0173a13, {}"
_README = "google-research/vision_transformer, README"


def _parts(size):
    """Split a size: `"ti16"` -> `("ti", "16")`."""
    letter = size.rstrip("0123456789")
    return letter, size[len(letter) :]


def _crop(image_size):
    """Return timm's crop: models for larger images see the whole image."""
    return 0.9 if image_size == 224 else 1.0


def _npz(url, size, image_size, top1=None, source=None, *, paper, classes=1000):
    return Published(
        url=f"{_GOOGLE}/{url}.npz",
        layout="augreg",
        preset=f"vit_{size}",
        image_size=image_size,
        classes=classes,
        top1=top1,
        top1_source=source,
        licence="Apache-2.0",
        paper=paper,
        sha256=None,
        preprocessing=Preprocessing(crop=_crop(image_size)),
    )


def _augreg(size, recipe, tuned=None, image_size=224, top1=None):
    """Return a row of an AugReg model: its recipe on ImageNet-21k, and fine-tuning."""
    letter, patch = _parts(size)
    url = f"augreg/{letter.title()}_{patch}-i21k-300ep-lr_0.001-aug_{recipe}"
    paper = "2106.10270"
    if tuned is None:
        return _npz(url, size, image_size, paper=paper, classes=21843)
    url += f"--imagenet2012-steps_20k-{tuned}-res_{image_size}"
    name = f"vit_{_LONG[letter]}_patch{patch}_{image_size}.augreg_in21k_ft_in1k"
    source = _README if image_size == 384 else _TIMM.format(name)
    return _npz(url, size, image_size, top1, source, paper=paper)


def _in21k(size):
    """Return a row for ImageNet-21k; the head has a tanh layer, `pre_logits`."""
    letter, patch = _parts(size)
    url = f"imagenet21k/ViT-{letter.upper()}_{patch}"
    return _npz(url, size, 224, paper="2010.11929", classes=21843)


def _vit(size, image_size, top1=None, source=None):
    """Return a row for ImageNet-21k, then ImageNet-1k; file names omit 384 px."""
    letter, patch = _parts(size)
    url = f"imagenet21k+imagenet2012/ViT-{letter.upper()}_{patch}"
    url += "" if image_size == 384 else f"-{image_size}"
    if source == _TIMM:
        source = source.format(
            f"vit_{_LONG[letter]}_patch{patch}_{image_size}.orig_in21k_ft_in1k"
        )
    return _npz(url, size, image_size, top1, source, paper="2010.11929")


def _deit(size, sha256, image_size, top1, *, distilled=False):
    """Return a row for ImageNet-1k only; the file name ends in SHA-256 digits."""
    letter, patch = _parts(size)
    kind = "_distilled" if distilled else ""
    file = f"deit_{_LONG[letter]}{kind}_patch{patch}_{image_size}"
    mean, std = NORMALISATIONS["imagenet"]
    return Published(
        url=f"{_META}/{file}-{sha256}.pth",
        layout="timm",
        preset=f"deit_{size}" if distilled else f"vit_{size}",
        image_size=image_size,
        classes=1000,
        top1=top1,
        top1_source=_TIMM.format(f"{file}.fb_in1k"),
        licence="Apache-2.0",
        paper="2012.12877",
        sha256=sha256,
        preprocessing=Preprocessing(mean, std, crop=_crop(image_size)),
    )


_NONE = "none-wd_0.03-do_0.0-sd_0.0"
_NONE_DECAYED = "none-wd_0.1-do_0.0-sd_0.0"
_LIGHT = "light1-wd_0.03-do_0.0-sd_0.0"
_LIGHT_DECAYED = "light1-wd_0.1-do_0.0-sd_0.0"
_MEDIUM = "medium1-wd_0.03-do_0.0-sd_0.0"
_MEDIUM_DECAYED = "medium1-wd_0.1-do_0.0-sd_0.0"
_MEDIUM_DROPPED = "medium1-wd_0.1-do_0.1-sd_0.1"
_MEDIUM2_DECAYED = "medium2-wd_0.1-do_0.0-sd_0.0"
_STRONG_DECAYED = "strong1-wd_0.1-do_0.0-sd_0.0"

PUBLISHED: dict[str, Published] = {
    # How to train your ViT?
    "vit_ti16_augreg_in21k": _augreg("ti16", _NONE),
    "vit_ti16_augreg_224": _augreg("ti16", _NONE, "lr_0.03", 224, 75.454),
    "vit_ti16_augreg_384": _augreg("ti16", _NONE, "lr_0.03", 384, 78.22),
    "vit_s32_augreg_in21k": _augreg("s32", _NONE_DECAYED),
    "vit_s32_augreg_224": _augreg("s32", _LIGHT, "lr_0.03", 224, 75.994),
    "vit_s32_augreg_384": _augreg("s32", _NONE_DECAYED, "lr_0.01", 384, 79.58),
    "vit_s16_augreg_in21k": _augreg("s16", _LIGHT),
    "vit_s16_augreg_224": _augreg("s16", _LIGHT, "lr_0.03", 224, 81.384),
    "vit_s16_augreg_384": _augreg("s16", _LIGHT, "lr_0.03", 384, 83.73),
    "vit_b32_augreg_in21k": _augreg("b32", _LIGHT_DECAYED),
    "vit_b32_augreg_224": _augreg("b32", _MEDIUM, "lr_0.03", 224, 80.716),
    "vit_b32_augreg_384": _augreg("b32", _LIGHT_DECAYED, "lr_0.01", 384, 83.59),
    "vit_b16_augreg_in21k": _augreg("b16", _MEDIUM_DECAYED),
    "vit_b16_augreg_224": _augreg("b16", _MEDIUM_DECAYED, "lr_0.01", 224, 84.532),
    "vit_b16_augreg_384": _augreg("b16", _MEDIUM_DECAYED, "lr_0.03", 384, 85.49),
    "vit_b8_augreg_in21k": _augreg("b8", _MEDIUM2_DECAYED),
    "vit_b8_augreg_224": _augreg("b8", _MEDIUM_DECAYED, "lr_0.01", 224, 85.798),
    "vit_l16_augreg_in21k": _augreg("l16", _STRONG_DECAYED),
    "vit_l16_augreg_224": _augreg("l16", _MEDIUM_DROPPED, "lr_0.01", 224, 85.834),
    "vit_l16_augreg_384": _augreg("l16", _STRONG_DECAYED, "lr_0.01", 384, 85.59),
    # An image is worth 16x16 words
    "vit_b32_in21k": _in21k("b32"),
    "vit_b16_in21k": _in21k("b16"),
    "vit_l32_in21k": _in21k("l32"),
    "vit_l16_in21k": _in21k("l16"),
    "vit_h14_in21k": _in21k("h14"),
    "vit_b32_384": _vit("b32", 384),
    "vit_b16_224": _vit("b16", 224, 81.786, _TIMM),
    "vit_b16_384": _vit("b16", 384, 84.200, _TIMM),
    "vit_l32_384": _vit("l32", 384, 81.510, _TIMM),
    "vit_l16_224": _vit("l16", 224, 82.7, _README),
    "vit_l16_384": _vit("l16", 384),
    # Training data-efficient image transformers & distillation through attention
    "deit_ti16_224": _deit("ti16", "a1311bcf", 224, 72.172),
    "deit_s16_224": _deit("s16", "cd65a155", 224, 79.844),
    "deit_b16_224": _deit("b16", "b5f2ef4d", 224, 81.992),
    "deit_b16_384": _deit("b16", "8de9b5d1", 384, 83.106),
    "deit_ti16_distilled_224": _deit("ti16", "b40b3cf7", 224, 74.500, distilled=True),
    "deit_s16_distilled_224": _deit("s16", "649709d9", 224, 81.218, distilled=True),
    "deit_b16_distilled_224": _deit("b16", "df68dfff", 224, 83.386, distilled=True),
    "deit_b16_distilled_384": _deit("b16", "d0272ac0", 384, 85.426, distilled=True),
}
"""Published files by name, for `weights=`; `vit-keras weights list` prints them."""
