"""Training by recipe: data to `RUN/model.keras`.

A `recipe` configures a run, `recipes` is their table; `stream` and `augment` make the
batches, `optimizers` the optimizer; `fit` trains, with `callbacks`, `progress` and
`checkpoint`, distributed by `devices` and `processes`. Files `dense_*` are for outputs
at each pixel, `frozen_tokens` for a decoder on a frozen backbone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
