"""Checker for LiteRT on a CPU: coverage and partitions of its XNNPACK delegate."""

import collections
import importlib.metadata

from ..interpreter import new_interpreter, operators_of
from .result import CheckResult


def check_xnnpack(path, found, name) -> CheckResult:
    """Load the file. Operators outside the delegate run slower: a fact, no refusal."""
    interpreter = new_interpreter(path)
    nodes = operators_of(interpreter)
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    given = {i for node in delegates for i in node["outputs"]}
    outside = collections.Counter(
        node["op_name"]
        for node in nodes
        if node["op_name"] != "DELEGATE"
        and node["outputs"][0] not in given
        and _has_memory(interpreter, node["outputs"][0])
    )
    facts = {"partitions": len(delegates), "outside XNNPACK": dict(outside)}
    return CheckResult(
        f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}", (), facts
    )


def _has_memory(interpreter, tensor):
    # A tensor inside a delegate has no memory of its own.
    try:
        interpreter.get_tensor(tensor)
    except ValueError:
        return False
    return True
