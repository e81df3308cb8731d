"""LiteRT on a CPU: what its XNNPACK delegate takes, and in how many pieces."""

import collections
import importlib.metadata

from .. import runners
from .result import Verdict


def judge(path, found, name) -> Verdict:
    """Load the file. Operators outside the delegate run, slower: a fact, no refusal."""
    interpreter = runners.new_interpreter(path)
    nodes = interpreter._get_ops_details()
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    given = {int(i) for node in delegates for i in node["outputs"]}
    outside = collections.Counter(
        node["op_name"]
        for node in nodes
        if node["op_name"] != "DELEGATE"
        and int(node["outputs"][0]) not in given
        and _has_memory(interpreter, int(node["outputs"][0]))
    )
    facts = {"partitions": len(delegates), "outside XNNPACK": dict(outside)}
    return Verdict(
        f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}", (), facts
    )


def _has_memory(interpreter, tensor):
    # A tensor inside a delegate has none of its own.
    try:
        interpreter.get_tensor(tensor)
    except ValueError:
        return False
    return True
