"""Vision Transformers for Keras 3, on TensorFlow, JAX and PyTorch.

    model = vit_keras.create_model("vit_ti16", image_size=224, classes=10)

Importing this package registers its layers, so that `keras.models.load_model` opens a
saved model without custom objects.
"""

try:
    import keras as _keras  # noqa: F401  its backend is chosen, and may be missing
except ModuleNotFoundError as error:
    raise ImportError(
        "Keras needs a backend: pip install tensorflow, jax or torch, and name it in "
        f"the environment variable KERAS_BACKEND. {error}"
    ) from error

from . import layers, preprocessing, vit
from .attention_maps import attention_rollout as attention_rollout
from .attention_maps import attention_scores as attention_scores
from .config import ViTConfig as ViTConfig
from .model import VisionTransformer as VisionTransformer
from .model import create_model as create_model
from .model import from_checkpoint as from_checkpoint
from .preprocessing import Preprocessing as Preprocessing
from .presets import PRESETS as PRESETS
from .presets import Preset as Preset
from .weights import PUBLISHED as PUBLISHED
from .weights import CheckpointError as CheckpointError
from .weights import load_weights as load_weights
from .weights import save_checkpoint as save_checkpoint

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "PRESETS",
    "PUBLISHED",
    "Preprocessing",
    "Preset",
    "ViTConfig",
    "VisionTransformer",
    "__version__",
    "attention_rollout",
    "attention_scores",
    "create_model",
    "from_checkpoint",
    "layers",
    "load_weights",
    "preprocessing",
    "save_checkpoint",
    "vit",
]
