"""Error of each tensor of a quantised file, against the float file."""

import dataclasses
import math

import numpy as np

from .figures import new_figure
from .interpreter import check_images, open_preserving, operators_of, short_name

IMAGES = 8  # enough: each gives thousands of values per tensor


@dataclasses.dataclass(frozen=True)
class TensorError:
    """Error of a tensor against the one of the same name in the float file.

    Attributes:
        name: part of the model and operation, "encoderblock_3/attention/Softmax".
        operator: that computes it, in the quantised file.
        dtype: in the quantised file.
        sqnr_db: `10 log10(sum ref^2 / sum (ref - out)^2)`, over the images.
    """

    name: str
    operator: str
    dtype: str
    sqnr_db: float


def tensor_errors(reference, path, images) -> list[TensorError]:
    """Compare two files of one graph tensor by tensor.

    Arguments:
        reference: the float32 `.tflite` file.
        path: the quantised file.
        images: (N, H, W, C), inputs of both; the first few are used.

    Returns:
        Errors in order of execution, of the tensors that both files have.
    """
    float_run, run = _Run(reference), _Run(path)
    images = check_images(images[:IMAGES], run.shape)
    # If a name occurs several times, the first tensor is compared.
    names = [name for name in run.results if name in float_run.results]
    signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for start in range(0, len(images), run.shape[0]):
        chunk = images[start : start + run.shape[0]]
        chunk = np.resize(chunk, (run.shape[0], *chunk.shape[1:]))
        float_run(chunk)
        run(chunk)
        for name in names:
            expected, got = float_run.values(name), run.values(name)
            signal[name] += float(np.sum(expected**2))
            noise[name] += float(np.sum((expected - got) ** 2))
    return [
        TensorError(
            short_name(name),
            run.operators[name],
            np.dtype(run.results[name]["dtype"]).name,
            _ratio(signal[name], noise[name]),
        )
        for name in names
    ]


def first_wrong(errors, threshold_db) -> TensorError | None:
    """Return the first tensor, in order of execution, below a threshold."""
    return next((e for e in errors if e.sqnr_db < threshold_db), None)


def plot_errors(errors, path):
    """Plot the errors in order of execution.

    Arguments:
        errors: from `tensor_errors`.
        path: of the PNG, PDF or SVG file to write.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    figure = new_figure()
    axes = figure.subplots()
    for operator in sorted({e.operator for e in errors}):
        points = [
            (i, e.sqnr_db) for i, e in enumerate(errors) if e.operator == operator
        ]
        axes.plot(*zip(*points, strict=True), ".", label=operator)
    blocks = {}
    for index, error in enumerate(errors):
        blocks.setdefault(error.name.split("/")[0], index)
    axes.set_xticks(list(blocks.values()), list(blocks), rotation=60, fontsize="small")
    axes.set(ylabel="SQNR (dB)", title="Error of each tensor, in order of execution")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small", ncols=2, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path)


class _Run:
    """A file in an interpreter that keeps its tensors."""

    def __init__(self, path):
        self.interpreter, self.entry, _ = open_preserving(path)
        self.shape = tuple(int(n) for n in self.entry["shape"])
        details = {t["index"]: t for t in self.interpreter.get_tensor_details()}
        self.results, self.operators = {}, {}
        computed = {self.entry["index"]}
        for op in operators_of(self.interpreter):
            # Weights in float16 become float32 under the name of what uses them.
            if not computed.intersection(map(int, op["inputs"])):
                continue
            computed.update(map(int, op["outputs"]))
            for index in op["outputs"]:
                tensor = details.get(index)
                # A conversion before an operator has the name of its source.
                if tensor is None or tensor["name"] in self.results:
                    continue
                self.results[tensor["name"]] = tensor
                self.operators[tensor["name"]] = op["op_name"]

    def __call__(self, images):
        scale, zero = self.entry["quantization"]
        values = np.asarray(images, "float32")
        if scale:
            limits = np.iinfo(self.entry["dtype"])
            values = np.clip(np.round(values / scale + zero), limits.min, limits.max)
        self.interpreter.set_tensor(
            self.entry["index"], values.astype(self.entry["dtype"])
        )
        self.interpreter.invoke()

    def values(self, name):
        """Return a tensor as float64, dequantised by its own scale."""
        tensor = self.results[name]
        values = self.interpreter.get_tensor(tensor["index"]).astype("float64")
        scale, zero = tensor["quantization"]
        return (values - zero) * scale if scale else values


def _ratio(signal, noise):
    if math.isnan(signal + noise):
        return -math.inf
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
