"""Layers of a Vision Transformer, one file per concept.

They run on TensorFlow, JAX and PyTorch (only `keras.ops`), are registered for saving,
and take plain numbers instead of configurations.
"""

from .attention import MultiHeadAttention as MultiHeadAttention
from .encoder import EncoderBlock as EncoderBlock
from .maps import PatchTokens as PatchTokens
from .maps import Resize as Resize
from .maps import Unpatchify as Unpatchify
from .mlp import MlpBlock as MlpBlock
from .norm import LayerNormalization as LayerNormalization
from .patches import ClassToken as ClassToken
from .patches import Patches as Patches
from .pooling import AttentionPooling as AttentionPooling
from .pooling import AveragePooling as AveragePooling
from .pooling import MaxPooling as MaxPooling
from .pooling import TokenPooling as TokenPooling
from .pooling import UnitNorm as UnitNorm
from .positions import AddPositionEmbs as AddPositionEmbs
from .queries import FirstTokens as FirstTokens
from .queries import QueryScores as QueryScores
from .queries import Readout as Readout
from .regularization import DropPath as DropPath
from .regularization import LayerScale as LayerScale
from .rotary import RotaryEmbedding as RotaryEmbedding
from .token_merging import TokenMerging as TokenMerging
from .token_merging import TokenRepetition as TokenRepetition
from .tome import ToMeBlock as ToMeBlock

__all__ = [
    "AddPositionEmbs",
    "AttentionPooling",
    "AveragePooling",
    "ClassToken",
    "DropPath",
    "EncoderBlock",
    "FirstTokens",
    "LayerNormalization",
    "LayerScale",
    "MaxPooling",
    "MlpBlock",
    "MultiHeadAttention",
    "PatchTokens",
    "Patches",
    "QueryScores",
    "Readout",
    "Resize",
    "RotaryEmbedding",
    "ToMeBlock",
    "TokenMerging",
    "TokenPooling",
    "TokenRepetition",
    "UnitNorm",
    "Unpatchify",
]
