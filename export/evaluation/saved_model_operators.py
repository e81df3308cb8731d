"""Operators of a SavedModel that would do more than compute, before any of it runs.

A SavedModel is a program for TensorFlow's runtime. Its operators may write files, send
data and call Python; those of a model of images do not.
"""

import re
from collections.abc import Iterator
from typing import Any

# They write or read any file, print into one, or write what was computed elsewhere.
FILES = (
    r"(Read|Write)File|.*MatchingFiles.*|FileSystem.*|ImportEvent|RecordInput"
    r"|Save(V2|Slices)?|DistributedSave|MergeV2Checkpoints|LoadAndRemapMatrix"
    r"|.*(Record|Line|CSV|LMDB|Sql|Snapshot|Cache|Load|Save|Service).*Dataset.*"
    r"|.*Dataset(ToTFRecord|Reader)|RegisterDataset.*|.*Reader(V2)?|ImmutableConst"
    r"|.*Summary.*|Debug.*|DumpTensor|GenerateVocabRemapping"
)
# They call Python, or other machines.
CALLS = r"(Eager)?PyFunc(Stateless)?|.*Rpc.*|RemoteCall|.*Send|.*Recv|Collective.*"
# They make operators of bytes, which nobody sees here.
HIDES = "DatasetFromGraph|UnwrapDatasetVariant|DeserializeIterator.*"
REFUSED = re.compile(f"{FILES}|{CALLS}|{HIDES}")
STARTS = ("saved_model_main_op", "legacy_init_op")  # names of what runs on opening


def refused_operators(graph: Any) -> list[str]:
    """Return the refused operators that run when a graph is opened or asked, sorted.

    What saves the model itself lies in it, too, and is run by nobody.

    Arguments:
        graph: a `MetaGraphDef`.
    """
    nodes = {node.name: node for node in graph.graph_def.node}
    functions = {f.signature.name: f for f in graph.graph_def.library.function}
    waiting, run = list(_starts(graph)), {}
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in run:
            run[name] = nodes[name]
            waiting += [_node_name(entry) for entry in nodes[name].input]
    # TensorFlow exchanges functions that say to compute the same.
    others = [f for f in functions.values() if "api_implements" in f.attr]
    bodies = [*run.values(), *(node for f in others for node in f.node_def)]
    seen, found = set(), set()
    while bodies:
        inner = bodies.pop()
        if REFUSED.fullmatch(inner.op) or _names_file(inner):
            found.add(inner.op)
        for called in {inner.op, *_called(inner)} & functions.keys() - seen:
            seen.add(called)
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


def _names_file(node):
    """Whether an operator that may print or read elsewhere does so in a file."""
    if node.op == "PrintV2":
        return node.attr["output_stream"].s.startswith(b"file:")
    if re.match("(De|En)codeProto", node.op):
        source = node.attr["descriptor_source"].s
        return source not in (b"", b"local://") and not source.startswith(b"bytes://")
    return False
