"""From a trained Keras model to a proven artefact for a phone, browser, NPU or server.

    export.to_tflite(model, "m.tflite", scheme="int8", calibration=images)
    export.verify(model, "m.tflite", images)

The public names stand in `__init__.pyi`; each loads its module when it is first used,
so importing this package loads neither Keras nor TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
