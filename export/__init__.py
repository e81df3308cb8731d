"""Export of trained Keras models to TFLite and SavedModel, checked for their target.

    export.to_tflite(model, "m.tflite", scheme="int8", calibration=images)
    export.verify(model, "m.tflite", images)

The public names stand in `__init__.pyi` and load their modules on first use: importing
this package loads neither Keras nor TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
