"""Weights from and for other libraries.

A file is opened (`files`), its layout recognised by the names in it (`recognise`, the
tables are `layouts/*.toml`), its configuration derived (`describe`), and its arrays
compared with a model (`plan`), turned and put into it (`loader`).
`writer` goes the other way, `published` and `download` bring files by name.
"""

from .entries import CheckpointError as CheckpointError
from .load_plan import LoadReport as LoadReport
from .loader import load_weights as load_weights
from .published import PUBLISHED as PUBLISHED
from .writer import save_checkpoint as save_checkpoint
