"""Training by recipe: data in, `RUN/model.keras` out."""

from .fit import train as train
from .recipe import Promise as Promise
from .recipe import Recipe as Recipe
from .recipes import RECIPES as RECIPES

__all__ = ["RECIPES", "Promise", "Recipe", "train"]
