"""Training by recipe: data in, `RUN/model.keras` out.

`recipe` says how, `recipes` is the table; `stream` makes the batches with `augment`,
`optimizers` the steps; `fit` runs them, watched by `watch` and `progress`, kept by
`checkpoint`, spread by `devices`.
"""

from .fit import train as train
from .recipe import Promise as Promise
from .recipe import Recipe as Recipe
from .recipes import RECIPES as RECIPES

__all__ = ["RECIPES", "Promise", "Recipe", "train"]
