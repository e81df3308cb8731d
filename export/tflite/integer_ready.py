"""A converted float file, made fit for integers before it is quantised."""

from ..evaluation.interpreter import new_interpreter
from ..flatbuffer.float_fixes import fix_float
from ..flatbuffer.graph_editor import GraphEditor


def make_integer_ready(path):
    """Rewrite a file in place: what it computes stays, how does not.

    The graphs of this package need none of it, and their files stay as they are.

    Arguments:
        path: of a float32 `.tflite` file, a `pathlib.Path`.
    """
    content = path.read_bytes()
    for rewrite in (fold_constants, fix_float):
        changed = rewrite(content)
        if changed is not None:
            path.write_bytes(content := changed)


def fold_constants(content) -> bytes | None:
    """Compute what depends on no input, as LiteRT itself does.

    Arguments:
        content: of a `.tflite` file.

    Returns:
        The new file; None if there is nothing to fold.
    """
    graph = GraphEditor(content)
    fixed = {i for i in range(len(graph.graph.tensors)) if graph.is_constant(i)}
    folded = []
    for op in graph.graph.operators:
        if all(index < 0 or index in fixed for index in op.inputs):
            fixed |= {int(index) for index in op.outputs}
            folded.append(op)
    if not folded:
        return None
    graph.graph.operators = [op for op in graph.graph.operators if op not in folded]
    wanted = {int(i) for op in graph.graph.operators for i in op.inputs}
    wanted |= {int(i) for i in graph.graph.outputs}
    results = sorted(wanted & {int(i) for op in folded for i in op.outputs})
    for index, values in zip(results, _evaluate(content, folded, results), strict=True):
        graph.make_constant(index, values)
    graph.remove_unread()
    return graph.content()


def _evaluate(content, operators, outputs):
    """The values of tensors that some operators compute from constants alone."""
    part = GraphEditor(content)
    names = {tuple(op.outputs) for op in operators}
    part.graph.operators = [
        op for op in part.graph.operators if tuple(op.outputs) in names
    ]
    part.graph.inputs, part.graph.outputs = [], outputs
    part.model.signatureDefs = []
    interpreter = new_interpreter("constants", content=part.content())
    interpreter.invoke()
    return [
        interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_output_details()
    ]
