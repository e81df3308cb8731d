from . import layers as layers
from . import preprocessing as preprocessing
from . import utils as utils
from . import visualize as visualize
from . import vit as vit
from .attention_maps import attention_map as attention_map
from .attention_maps import attention_rollout as attention_rollout
from .attention_maps import attention_scores as attention_scores
from .config import ViTConfig as ViTConfig
from .model import create_model as create_model
from .model import from_checkpoint as from_checkpoint
from .network import VisionTransformer as VisionTransformer
from .preprocessing import Preprocessing as Preprocessing
from .presets import PRESETS as PRESETS
from .presets import Preset as Preset
from .text_tower import text_embeddings as text_embeddings
from .token_groups import token_groups as token_groups
from .training import RECIPES as RECIPES
from .training import Recipe as Recipe
from .training import evaluate as evaluate
from .training import train as train
from .weights import PUBLISHED as PUBLISHED
from .weights import CheckpointError as CheckpointError
from .weights import load_weights as load_weights
from .weights import save_checkpoint as save_checkpoint
from .zero_shot_model import zero_shot as zero_shot

__version__: str
