from .entries import CheckpointError as CheckpointError
from .load_plan import LoadReport as LoadReport
from .loader import load_weights as load_weights
from .published import PUBLISHED as PUBLISHED
from .writer import save_checkpoint as save_checkpoint
