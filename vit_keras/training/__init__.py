"""Training by recipe: data in, `RUN/model.keras` out."""

from .fit import train as train
from .recipe import RECIPES as RECIPES
from .recipe import Recipe as Recipe

__all__ = ["RECIPES", "Recipe", "train"]
