"""A SavedModel directory in a TensorFlow session, as TF Serving runs it."""

import pathlib

from ..errors import missing


class SavedModelSession:
    """An open SavedModel directory.

    Arguments:
        path: the directory.

    Attributes:
        signatures: {name: SignatureDef}.

    Raises:
        ValueError: the directory is no SavedModel.
        MissingDependency: TensorFlow is not installed.
    """

    HIDDEN = ("__saved_model_init_op", "__saved_model_train_op")

    def __init__(self, path):
        try:
            import tensorflow as tf
        except ImportError as error:
            raise missing("tensorflow") from error
        v1, logger = tf.compat.v1, tf.get_logger()
        self.path, self.tf = pathlib.Path(path), tf
        self.session = v1.Session(graph=tf.Graph())
        level = logger.level
        logger.setLevel("ERROR")  # its warning recommends another loader
        try:
            graph = v1.saved_model.load(self.session, ["serve"], str(path))
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"`path` must be a SavedModel. '{path}': {reason}"
            ) from error
        finally:
            logger.setLevel(level)
        found = graph.signature_def
        self.signatures = {k: v for k, v in found.items() if k not in self.HIDDEN}

    def run(self, name, inputs, only=None):
        """Run a signature and return its outputs by name.

        Arguments:
            name: of the signature.
            inputs: {name: array}.
            only: names of the outputs to compute; None for all.
        """
        signature = self.signatures[name]
        feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
        fetches = {k: signature.outputs[k].name for k in only or signature.outputs}
        return self.session.run(fetches, feeds)
