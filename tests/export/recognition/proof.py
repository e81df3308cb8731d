"""A function beside the graph that it was read from."""

import numpy as np

from export.graph.recognition.traced_graph import TracedGraph, Unrecognised

EQUAL = 1e-4  # of the output's range; rounding in float32 gives 1e-6


def prove(graph: TracedGraph, function, images=None):
    """Compare a function with the graph it was made from, which LiteRT runs.

    Arguments:
        graph: the graph.
        function: from float32 images (N, ...), in the graph's layout, to its output.
        images: to compare on, one after another; None for four of random numbers.

    Returns:
        The greatest difference, relative to the range of the graph's outputs.

    Raises:
        Unrecognised: it is more than rounding.
    """
    from ai_edge_litert.interpreter import Interpreter

    if images is None:
        draws, shape = np.random.default_rng(0), graph.input_shape[1:]
        images = [draws.standard_normal(shape) for _ in range(2)]
        images += [draws.uniform(0, 255, shape) for _ in range(2)]
    interpreter = Interpreter(model_content=graph.content, num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    exit_ = interpreter.get_output_details()[0]["index"]
    expected, actual = [], []
    for image in images:
        image = np.asarray(image, "float32")[None]
        interpreter.set_tensor(entry, image)
        interpreter.invoke()
        expected.append(interpreter.get_tensor(exit_).ravel())
        actual.append(np.asarray(function(image)).ravel())
    expected, actual = np.stack(expected), np.stack(actual)
    difference = float(np.abs(expected - actual).max() / max(np.ptp(expected), 1e-6))
    if not difference <= EQUAL:
        raise Unrecognised(
            f"the ViT that was read differs by {difference:.1e} of the output range"
        )
    return difference
