"""Operators of a SavedModel that would do more than compute, before any of it runs.

A SavedModel is a program for TensorFlow's runtime. Its operators may write files, send
data and call Python; those of a model of images do not.
"""

import re
from collections.abc import Iterator
from typing import Any

# They write or read any file, print into one, or write what was computed elsewhere.
FILES = (
    r"(Read|Write)File|MatchingFiles|Save(V2|Slices)?|DistributedSave|ImmutableConst"
    r"|MergeV2Checkpoints|.*(Record|Line|CSV|LMDB|Sql|Snapshot|Cache|Load|Save|Service)"
    r".*Dataset.*|.*Dataset(ToTFRecord|Reader)|RegisterDataset.*|.*Reader(V2)?|.*Summary.*|Debug.*|DumpTensor"
    r"|LoadAndRemapMatrix|GenerateVocabRemapping|(De|En)codeProto.*|RecordInput"
)
# They call Python, or other machines.
CALLS = r"(Eager)?PyFunc(Stateless)?|.*Rpc.*|RemoteCall|.*Send|.*Recv|Collective.*"
REFUSED = re.compile(f"{FILES}|{CALLS}")
STARTS = ("saved_model_main_op", "legacy_init_op")  # names of what runs on opening


def refused_operators(graph: Any) -> list[str]:
    """Return the refused operators that run when a graph is opened or asked, sorted.

    What saves the model itself lies in it, too, and is run by nobody.

    Arguments:
        graph: a `MetaGraphDef`.
    """
    nodes = {node.name: node for node in graph.graph_def.node}
    functions = {f.signature.name: f for f in graph.graph_def.library.function}
    waiting, seen, found = list(_starts(graph)), set(), set()
    while waiting:
        name = waiting.pop()
        node = nodes.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        waiting += [_node_name(entry) for entry in node.input]
        bodies = [node]
        while bodies:
            inner = bodies.pop()
            if REFUSED.fullmatch(inner.op) or _prints_to_file(inner):
                found.add(inner.op)
            for called in {inner.op, *_called(inner)} & functions.keys():
                if f"function {called}" not in seen:
                    seen.add(f"function {called}")
                    bodies += functions[called].node_def
    return sorted(found)


def _starts(graph) -> Iterator[str]:
    """The nodes that are run by name."""
    for signature in graph.signature_def.values():
        for info in signature.outputs.values():
            yield _node_name(info.name)
            yield from (
                _node_name(part.name) for part in info.composite_tensor.components
            )
            sparse = info.coo_sparse
            names = sparse.values_tensor_name, sparse.indices_tensor_name
            yield from map(_node_name, names)
    yield _node_name(graph.saver_def.restore_op_name)
    for name in STARTS:
        yield from map(_node_name, graph.collection_def[name].node_list.value)


def _node_name(entry):
    return entry.removeprefix("^").split(":")[0]


def _called(node):
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)


def _prints_to_file(node):
    stream = node.attr["output_stream"].s if "output_stream" in node.attr else b""
    return node.op == "PrintV2" and stream.startswith(b"file:")
