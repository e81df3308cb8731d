"""A SavedModel whose requests are joined in batches, as TF Serving joins them.

TF Serving's BatchingSession stands on `SharedBatchScheduler`, which TensorFlow has too:
its operator BatchFunction puts the same scheduler around a function of the graph. So
what is not TF Serving's here is the way to the scheduler, not its rules.
"""

import pathlib
import re
import tempfile

import numpy as np

from export.evaluation.saved_model_session import SavedModelSession
from export.serving.server_files import write_serving_files


class BatchedSession(SavedModelSession):
    """An open SavedModel directory that runs several requests at once.

    Arguments:
        path: the directory, NAME/VERSION.
        rules: from `batching_rules`; None for those that its serving files have.

    Raises:
        ValueError: the directory is no SavedModel.
    """

    def __init__(self, path, rules: dict | None = None):
        super().__init__(path)
        rules = deployed_rules(path) if rules is None else rules
        self._batched = {
            name: self._behind_scheduler(signature, rules)
            for name, signature in self.signatures.items()
        }

    def _behind_scheduler(self, signature, rules):
        """Return ({input: placeholder}, {output: tensor}) of a signature."""
        graph = self.session.graph
        ((key, entry),) = signature.inputs.items()
        outputs = {
            name: graph.get_tensor_by_name(info.name)
            for name, info in signature.outputs.items()
        }
        (call,) = {tensor.op for tensor in outputs.values()}
        placeholder, *captured = call.inputs
        if placeholder.name != entry.name:
            raise ValueError(f"{self.path}: {call.name} does not begin with its input")
        with graph.as_default():
            found = self.tf.raw_ops.BatchFunction(
                in_tensors=[placeholder],
                captured_tensors=captured,
                f=call.get_attr("f").name,
                Tout=call.get_attr("Tout"),
                enable_large_batch_splitting=False,
                **rules,
            )
        tensors = {name: found[t.value_index] for name, t in outputs.items()}
        return {key: placeholder}, tensors

    def run(self, name, inputs, only=None) -> dict[str, np.ndarray]:
        """Run a signature, in one batch with what other threads ask; see the base."""
        entries, outputs = self._batched[name]
        feeds = {entries[key]: value for key, value in inputs.items()}
        return self.session.run({k: outputs[k] for k in only or outputs}, feeds)


def batching_rules(text: str) -> dict:
    """Read `batching_parameters.txt` as arguments of BatchFunction."""
    found: dict = {"allowed_batch_sizes": []}
    for name, wrapped, plain in re.findall(
        r"(\w+)\s*(?:{ value: (\d+) }|: (\d+))", text
    ):
        if plain:
            found[name].append(int(plain))
        else:
            found[name] = int(wrapped)
    return found


def deployed_rules(path) -> dict:
    """The rules that `write_serving_files` writes for a SavedModel directory."""
    with tempfile.TemporaryDirectory() as folder:
        write_serving_files(path, folder)
        text = pathlib.Path(folder, "batching_parameters.txt").read_text()
    return batching_rules(text)
