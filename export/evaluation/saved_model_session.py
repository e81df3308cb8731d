"""A SavedModel directory in a TensorFlow session, as TF Serving runs it."""

import pathlib
import re

from ..errors import missing
from .saved_model_operators import refused_operators


class SavedModelSession:
    """An open SavedModel directory.

    Arguments:
        path: the directory.

    Attributes:
        signatures: {name: SignatureDef}.

    Raises:
        ValueError: the directory is no SavedModel, is damaged, or has operators that
            write files, send data or call Python.
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
        # TensorFlow looks for nodes in its messages, in time that grows with the square
        # of their length; and messages repeat texts and functions of the graph.
        self.session._do_call = lambda function, *arguments: function(*arguments)
        level = logger.level
        logger.setLevel("ERROR")  # its warning recommends another loader
        try:
            _refuse_programs(path)
            graph = v1.saved_model.load(self.session, ["serve"], str(path))
            found = graph.signature_def
            self.signatures = {k: v for k, v in found.items() if k not in self.HIDDEN}
            for signature in self.signatures.values():
                for info in (*signature.inputs.values(), *signature.outputs.values()):
                    tf.as_dtype(info.dtype)  # raises for a number of none
        except Exception as error:  # of files, protocol buffers and all operators
            raise ValueError(
                f"`path` must be a SavedModel. '{path}': {first_line(error)}"
            ) from error
        finally:
            logger.setLevel(level)

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


def first_line(error: Exception) -> str:
    """The first line of an error of TensorFlow, without nodes, of 500 characters."""
    text = (str(error) or type(error).__name__)[:2000]
    lines = re.sub(r"\{\{\w+ [^{}]*\}\}\s*", "", text).splitlines()
    return lines[0][:500] if lines else type(error).__name__


def _refuse_programs(path):
    """Raise a ValueError if a SavedModel would do more than compute."""
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    for graph in parse_saved_model(str(path)).meta_graphs:
        found = refused_operators(graph)
        if found:
            raise ValueError(
                f"its operators {', '.join(found)} would read or write files, send "
                "data or call Python"
            )
