"""Training by recipe: data in, `RUN/model.keras` out.

`recipe` says how, `recipes` is the table; `stream` makes the batches with `augment`,
`optimizers` the steps; `fit` runs them, watched by `callbacks` and `progress`, kept by
`checkpoint`, distributed by `devices` and `processes`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
