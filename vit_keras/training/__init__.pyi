from .evaluation import accuracy as accuracy
from .evaluation import evaluate as evaluate
from .fit import train as train
from .recipe import Recipe as Recipe
from .recipe import ReferenceResult as ReferenceResult
from .recipes import RECIPES as RECIPES
