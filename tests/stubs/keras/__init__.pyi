# Untyped upstream; what a checker infers from its source is wrong more often than not.
from typing import Any

from . import saving as saving

def __getattr__(name: str) -> Any: ...
