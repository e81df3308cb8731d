"""Vision Transformers for Keras 3, on TensorFlow, JAX and PyTorch.

    model = vit_keras.create_model("vit_ti16", image_size=224, classes=10)

The public names stand in `__init__.pyi`; each loads its module, and Keras, on first
use. The layers are registered with Keras as soon as both packages are imported, so that
`keras.models.load_model` opens a saved model without custom objects.
"""

import importlib

import lazy_loader
import wrapt

from .missing import explain

__version__ = "0.2.0.dev0"

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name):
    try:
        return _load(name)
    except ImportError as error:
        raise explain(error) from None


@wrapt.when_imported("keras")
def _register_layers(keras):
    importlib.import_module(".network", __name__)
