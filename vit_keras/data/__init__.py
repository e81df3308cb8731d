"""Data sets of labelled images for training and evaluation.

`dataset` has arrays and the digits; `folders` and `label_tables` find files and their
labels, `file_checks` compares files; `splits` has the parts of a source; `sources`
opens any user data, `mask_sources` that with labels at each pixel: `mask_folders` finds
the pairs, `mask_classes` says what numbers and colours mean, `coco_masks` draws them;
`reading` decodes in threads, `pixels` loads images without labels, `batches` feeds an
evaluation.
No deep-learning framework but Keras and no download is needed.
"""

from .batches import Batches as Batches
from .batches import map_batch as map_batch
from .batches import one_hot as one_hot
from .batches import targets as targets
from .batches import with_head as with_head
from .dataset import Dataset as Dataset
from .dataset import LazyImages as LazyImages
from .dataset import digits as digits
from .dataset import match_classes as match_classes
from .dataset import split as split
from .folders import folder as folder
from .pixels import load_images as load_images
from .reading import in_threads as in_threads
from .reading import prepare as prepare
from .reading import read_fitted as read_fitted
from .reading import read_pair as read_pair
from .reading import read_pixels as read_pixels
from .sources import open_source as open_source
from .sources import open_splits as open_splits
from .splits import Splits as Splits

__all__ = [
    "Batches",
    "Dataset",
    "LazyImages",
    "Splits",
    "digits",
    "folder",
    "in_threads",
    "load_images",
    "map_batch",
    "match_classes",
    "one_hot",
    "open_source",
    "open_splits",
    "prepare",
    "read_fitted",
    "read_pair",
    "read_pixels",
    "split",
    "targets",
    "with_head",
]
