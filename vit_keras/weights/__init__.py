"""Weights from and for other libraries.

A file is opened (`formats`), its layout recognised by the names in it (`recognise`, the
tables are `layouts/*.toml`), its configuration derived (`describe`), and its arrays
compared with a model (`load_plan`), transposed and put into it (`loader`).
`writer` goes the other way, `published` and `download` bring files by name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
