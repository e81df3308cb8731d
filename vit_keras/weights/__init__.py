"""Weights from and for other libraries.

A file is opened (`formats`), its layout recognised by the names in it (`recognise`; the
tables are `layouts/*.toml`), the settings beside it are understood or refused (`told`),
and its configuration derived (`describe`). Its arrays are compared with a model
(`load_plan`), transposed and assigned (`loader`). `writer` is the reverse; `published`
and `download` fetch files by name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
