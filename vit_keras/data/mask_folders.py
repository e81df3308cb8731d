"""Folders of images and masks as people have them: which file belongs to which.

| layout | images | masks |
|---|---|---|
| side by side | `images/**/a.jpg` | `masks/**/a.png` |
| parts inside | `images/train/a.jpg` | `masks/train/a.png` |
| parts outside | `train/images/a.jpg` | `train/masks/a.png` |
| CamVid | `train/a.png` | `trainannot/a.png` |
| Pascal VOC | `JPEGImages/a.jpg` | `SegmentationClass/a.png`, parts as lists of names |

The names of folders are those of `IMAGES`, `MASKS` and `BESIDE`.
"""

import dataclasses
import pathlib

from .. import preprocessing as pp
from ..text_files import read_text
from .folders import find_files
from .splits import NAMES, PARTS

# Names of folders; capitals do not matter.
IMAGES = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "leftimg8bit")
IMAGES += ("rgb",)
MASKS = {
    "segment": ("masks", "mask", "labels", "annotations", "ann_dir", "annot")
    + ("segmentationclass", "gtfine"),
    "depth": ("depth", "depths", "depth_maps", "depth_map"),
}
# What follows the name of a part in that of its folder of masks.
BESIDE = {
    "segment": ("annot", "_annot", "_labels", "_masks", "_annotations"),
    "depth": ("depth", "_depth", "_depths"),
}
PART_FOLDERS = {**PARTS, "training": "train", "testing": "test"}  # as ADE20K's
# What may follow the common name of a pair; the longest first.
MASK_ENDS = {
    "segment": ("_gtFine_labelTrainIds", "_gtFine_labelIds", "_labelTrainIds")
    + ("_segmentation", "_labelIds", "_annotation", "_labels", "_label", "_masks")
    + ("_mask", "_seg", "_gt", "_L"),
    "depth": ("_depth",),
}
IMAGE_ENDS = ("_leftImg8bit", "_image", "_img", "_rgb", "_sat")
# Ends of files beside masks that are something else: Cityscapes' instances, pictures.
OTHER_ENDS = ("_gtFine_color", "_gtFine_instanceIds", "_instanceIds", "_color")
ASIDE = "pictures and instances beside the masks, left out"


@dataclasses.dataclass(frozen=True)
class PairFolders:
    """The folders of one part.

    Attributes:
        images, masks: the folders.
        listed: names without suffix of the pairs; None for all that there are.
    """

    images: pathlib.Path
    masks: pathlib.Path
    listed: tuple[str, ...] | None = None


def find_parts(
    root: pathlib.Path, task: str
) -> tuple[dict[str, PairFolders], list[pathlib.Path]]:
    """Find the folders of images and masks.

    Arguments:
        task: "segment" or "depth".

    Returns:
        ({"train", "validation" or "test": folders}, other folders beside these, and
        those of parts that lack images or masks). What has no parts is "train".

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no layout that is known, or two that are.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"`data` must be a folder. Received: '{root}'")
    pair = _pair(root, task)
    if pair is not None:
        lists = sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))
        if lists and task == "segment":
            return _listed(pair, lists), []
        parts, without = _inside(*pair)
        return parts or {"train": PairFolders(*pair)}, without
    parts, without = {}, []
    named = {child.name.lower(): child for child in _folders(root)}
    for child in _folders(root):
        name = PART_FOLDERS.get(child.name.lower())
        if name is None:
            without.append(child)
            continue
        found = _pair(child, task)
        beside = [
            named[child.name.lower() + end]
            for end in BESIDE[task]
            if child.name.lower() + end in named
        ]
        pairs = [(child, mask) for mask in beside] + ([found] if found else [])
        if len(pairs) > 1 or (pairs and name in parts):
            raise ValueError(
                f"`data` must have one folder of masks for each part. '{root}' has "
                f"two for {name}"
            )
        if pairs:
            images, masks = pairs[0]
            parts[name] = PairFolders(images, masks)
        else:
            without.append(child)
    parts = {name: parts[name] for name in NAMES if name in parts}
    used = {part.masks for part in parts.values()}
    without = [child for child in without if child not in used]
    if not parts:
        raise ValueError(
            "`data` must hold a folder of images and one of masks, alone or in train, "
            f"val and test. Names of images: {', '.join(IMAGES)}; of masks: "
            f"{', '.join(MASKS[task])}; beside train: "
            f"{', '.join('train' + end for end in BESIDE[task])}. '{root}' holds "
            f"{', '.join(child.name for child in _folders(root)) or 'no folder'}"
        )
    return parts, without


def _folders(root):
    return [p for p in sorted(root.iterdir()) if p.is_dir() and p.name[0] != "."]


def _pair(root, task):
    """Return the folder of images and that of masks, or None."""
    found = []
    for names in (IMAGES, MASKS[task]):
        folders = [child for child in _folders(root) if child.name.lower() in names]
        if len(folders) > 1:
            raise ValueError(
                f"`data` must have one folder of images and one of masks. '{root}' has "
                f"{', '.join(child.name for child in folders)}"
            )
        found += folders
    return (found[0], found[1]) if len(found) == 2 else None


def _inside(images, masks):
    """Return the parts inside of both folders, as `find_parts` does."""
    folders = {
        (name, at): child
        for at, folder in enumerate((images, masks))
        for child in _folders(folder)
        if (name := PART_FOLDERS.get(child.name.lower()))
    }
    names = [n for n in NAMES if (n, 0) in folders and (n, 1) in folders]
    if not names:
        return {}, []
    loose = [p for p in images.iterdir() if p.suffix.lower() in pp.IMAGE_SUFFIXES]
    if loose or "train" not in names:
        raise ValueError(
            f"'{images}' and '{masks}' must hold all in train and other parts, or all "
            f"directly. Received: parts {', '.join(names)}, {len(loose)} images beside"
        )
    without = [child for (name, _), child in folders.items() if name not in names]
    parts = {n: PairFolders(folders[n, 0], folders[n, 1]) for n in names}
    return parts, without


def _listed(pair, lists):
    """Return the parts by lists of names: train and others, or a single one."""
    parts = {}
    for path in lists:
        name = PARTS.get(path.stem.lower(), "train" if len(lists) == 1 else None)
        lines = read_text(path).split("\n")
        names = tuple(line.strip() for line in lines if line.strip())
        if name is not None and names:
            parts[name] = PairFolders(*pair, listed=names)
    if "train" not in parts:
        raise ValueError(
            f"'{lists[0].parent}' must have train.txt, or one list alone. Received: "
            f"{', '.join(path.name for path in lists)}"
        )
    return parts


def match_files(
    folders: PairFolders, task: str, suffixes: tuple[str, ...] | None
) -> tuple[list[tuple[pathlib.Path, pathlib.Path]], dict[str, list]]:
    """Match images and masks by their paths without suffix.

    Equal names are matched first; the others without what `IMAGE_ENDS` and `MASK_ENDS`
    list, such as `a.jpg` and `a_mask.png`.

    Arguments:
        suffixes: of masks; None for any.

    Returns:
        (the pairs in the images' order, {what is wrong: files or listed names}).

    Raises:
        ValueError: two files have the same name.
    """
    images, _ = find_files(folders.images)
    masks = [f for files in find_files(folders.masks) for f in files]
    masks = sorted(f for f in masks if not suffixes or f.suffix.lower() in suffixes)
    named = _by_name(images, folders.images, ())
    masked = _by_name(masks, folders.masks, ())
    pairs = {named[n]: masked[n] for n in named.keys() & masked.keys()}
    images = [f for f in images if f not in pairs]
    masks = [f for f in masks if f not in set(pairs.values())]
    named = _by_name(images, folders.images, IMAGE_ENDS)
    aside = [f for f in masks if f.stem.endswith(OTHER_ENDS)]
    masks = [f for f in masks if f not in set(aside)]
    masked = _by_name(masks, folders.masks, MASK_ENDS[task])
    pairs |= {named[n]: masked[n] for n in named.keys() & masked.keys()}
    lost = {
        "images without a mask, left out": [f for f in images if f not in pairs],
        "masks without an image, left out": [
            f for f in masks if f not in set(pairs.values())
        ],
        ASIDE: aside,
    }
    if folders.listed is None:
        return sorted(pairs.items()), lost
    by_name = {
        image.relative_to(folders.images).with_suffix("").as_posix(): (image, mask)
        for image, mask in pairs.items()
    }
    lacking = [name for name in folders.listed if name not in by_name]
    lost = {"listed names without an image and a mask, left out": lacking}
    return [by_name[name] for name in folders.listed if name in by_name], lost


def _by_name(files, folder, ends):
    """{path in the folder without suffix and end: file}"""
    found = {}
    for file in files:
        name = file.relative_to(folder).with_suffix("").as_posix()
        end = next((end for end in ends if name.endswith(end)), "")
        name = name.removesuffix(end)
        if name in found:
            raise ValueError(
                f"`data` must have one file of each name. Received: '{found[name]}' "
                f"and '{file}'"
            )
        found[name] = file
    return found


def images_of_pairs(root: pathlib.Path) -> list[pathlib.Path]:
    """Return the images of a folder of images and masks, or of images and depths.

    Returns:
        Those that have a mask, of all parts; empty if the folder has no such pairs.
    """
    for task in MASKS:
        try:
            parts, _ = find_parts(root, task)
            matched = [match_files(part, task, None)[0] for part in parts.values()]
        except ValueError:
            continue
        if any(matched):
            return [image for pairs in matched for image, _ in pairs]
    return []
