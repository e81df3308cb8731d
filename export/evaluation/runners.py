"""Artefacts as callables: `load(path)(images) -> outputs`."""

import concurrent.futures
import os
import pathlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .interpreter import check_images, new_interpreter, threads
from .saved_model_session import SavedModelSession, first_line


def load(
    path: str | os.PathLike[str], num_threads: int = 1
) -> "TFLiteRunner | SavedModelRunner":
    """Open a `.tflite` file or a SavedModel directory in its own runtime.

    A `.tflite` file that this process has neither made nor opened before runs once in a
    child process, because LiteRT ends the process at some damaged files.

    Arguments:
        path: the artefact.
        num_threads: threads of the LiteRT interpreter.

    Returns:
        `TFLiteRunner` or `SavedModelRunner`.

    Raises:
        FileNotFoundError: the artefact does not exist.
        ValueError: the file is truncated, is no model, or ends its runtime.
        ChildProcessError: its first run was killed from outside.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return SavedModelRunner(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"`path` must be a file or SavedModel directory. Received: path='{path}'"
        )
    return TFLiteRunner(path, num_threads)


def run_on_all_cores(
    path: str | os.PathLike[str], images: ArrayLike
) -> dict[str, np.ndarray]:
    """Run an artefact on images: a `.tflite` file in an interpreter per core, because
    LiteRT has one thread for an int16 operator, whatever it is given.

    Arguments:
        path: of the file, or SavedModel directory.
        images: (N, H, W, C), N >= 1.

    Returns:
        {name: outputs (N, ...)}, as `TFLiteRunner.all` gives them.
    """
    if os.path.isdir(path):  # TensorFlow takes the cores that there are
        return SavedModelRunner(path).all(images)
    first = TFLiteRunner(path)
    images, batch = check_images(images, first.input_shape), first.input_shape[0]
    batches = -(-len(images) // batch)
    number = min(threads(), batches)
    ends = [batch * (batches * n // number) for n in range(1, number)]
    shares = np.split(images, ends)
    runners = [first, *(TFLiteRunner(path) for _ in shares[1:])]
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        found = list(pool.map(TFLiteRunner.all, runners, shares))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


class TFLiteRunner:
    """A `.tflite` file in the LiteRT interpreter, with its default XNNPACK delegate.

    Attributes:
        input_shape: including the file's fixed batch.
        input_dtype: name of a NumPy dtype.
        output_shapes, output_dtypes: the same of each output, by its name in the
            file's signature, in the file's order.
        output_shape, output_dtype: of the first output.
    """

    input_shape: tuple[int, ...]
    output_shapes: dict[str, tuple[int, ...]]
    input_dtype: str
    output_dtypes: dict[str, str]

    def __init__(self, path: str | os.PathLike[str], num_threads: int = 1):
        self._path = path
        self.interpreter = new_interpreter(path, num_threads=num_threads)
        inputs = self.interpreter.get_input_details()
        _check_ends(path, inputs, self.interpreter.get_output_details())
        (self._input,) = inputs
        self._outputs = outputs_by_name(self.interpreter)
        self.input_shape = tuple(int(n) for n in self._input["shape"])
        self.input_dtype = np.dtype(self._input["dtype"]).name
        self.output_shapes = {
            name: tuple(int(n) for n in end["shape"])
            for name, end in self._outputs.items()
        }
        self.output_dtypes = {
            name: np.dtype(end["dtype"]).name for name, end in self._outputs.items()
        }

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return next(iter(self.output_shapes.values()))

    @property
    def output_dtype(self) -> str:
        """Dtype of the first output."""
        return next(iter(self.output_dtypes.values()))

    def __call__(self, images: ArrayLike) -> np.ndarray:
        """Run any number of images; the last batch is padded.

        Arguments:
            images: (N, H, W, C), inputs of the file: for files of this package raw
                pixels 0..255. They are quantised by the file's own scale if needed.

        Returns:
            float32 array (N, ...), dequantised by the file's own scale: of a file with
            several outputs the first one.

        Raises:
            ValueError: the images have another shape, or LiteRT cannot run the file.
        """
        first = next(iter(self._outputs))
        return self._run(images, [first])[first]

    def all(self, images: ArrayLike) -> dict[str, np.ndarray]:
        """Run any number of images; return {name: what a call gives} of all outputs."""
        return self._run(images, list(self._outputs))

    def _run(self, images, names):
        images = check_images(images, self.input_shape)
        batch, outputs = self.input_shape[0], {name: [] for name in names}
        for start in range(0, len(images), batch):
            chunk = images[start : start + batch]
            filled = np.resize(chunk, (batch, *chunk.shape[1:]))
            self.set_input(filled)
            self._invoke()
            for name, found in outputs.items():
                found.append(self.get_output(name)[: len(chunk)])
        return {name: np.concatenate(found) for name, found in outputs.items()}

    def _invoke(self):
        try:
            self.interpreter.invoke()
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"LiteRT cannot run '{self._path}': {reason}") from error

    def set_input(self, images: np.ndarray) -> None:
        """Write one full batch of images to the input tensor."""
        scale, zero = self._input["quantization"]
        dtype = self._input["dtype"]
        if np.issubdtype(dtype, np.integer):
            values = np.asarray(images, "float32") / (scale or 1.0) + zero
            limits = np.iinfo(dtype)
            images = np.clip(np.round(values), limits.min, limits.max)
        self.interpreter.set_tensor(self._input["index"], images.astype(dtype))

    def get_input(self) -> np.ndarray:
        """Read the input tensor as it is stored."""
        return self.interpreter.get_tensor(self._input["index"])

    def get_output(self, name: str | None = None) -> np.ndarray:
        """Read an output tensor as float32, by its name; None is the first."""
        name = next(iter(self._outputs)) if name is None else name
        values = self.interpreter.get_tensor(self._outputs[name]["index"])
        return self.dequantised(name, values)

    def dequantised(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return stored values of an output as float32, by the file's own scale."""
        scale, zero = self._outputs[name]["quantization"]
        if scale:
            return (values.astype("float32") - zero) * np.float32(scale)
        return values.astype("float32")


class SavedModelRunner:
    """A SavedModel directory in a TensorFlow session, signature `serving_default`.

    Attributes:
        input_shape, output_shape: None stands for any number of images.
        input_dtype, output_dtype: names of NumPy dtypes.
        output_shapes, output_dtypes: the same by the output's name.
    """

    input_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]
    input_dtype: str
    output_dtype: str

    def __init__(self, path: str | os.PathLike[str]):
        self._session = SavedModelSession(path)
        signature = self._session.signatures.get("serving_default")
        if signature is None:
            raise ValueError(
                "`path` must be a SavedModel with the signature serving_default. "
                f"'{path}' has: {', '.join(self._session.signatures) or 'none'}"
            )
        inputs, outputs = signature.inputs, signature.outputs
        if "output" in outputs:  # of this package, perhaps beside other outputs
            outputs = {"output": outputs["output"]}
        _check_ends(path, inputs, outputs, most=1)
        ((self._name, spec),) = inputs.items()
        ((self._output, result),) = outputs.items()
        dtype = self._session.tf.as_dtype
        self.input_shape, self.output_shape = _shape(spec), _shape(result)
        self.input_dtype, self.output_dtype = (
            dtype(info.dtype).name for info in (spec, result)
        )
        self.output_shapes = {self._output: self.output_shape}
        self.output_dtypes = {self._output: self.output_dtype}

    def __call__(self, images: ArrayLike, batch_size: int = 32) -> np.ndarray:
        """Run images (N, H, W, C); return float32 outputs (N, ...).

        Raises:
            ValueError: the images have another shape, or TensorFlow cannot run them.
        """
        images = check_images(images, self.input_shape).astype(self.input_dtype)
        outputs = []
        for start in range(0, len(images), batch_size):
            inputs = {self._name: images[start : start + batch_size]}
            found = self._run(inputs)
            outputs.append(found[self._output].astype("float32"))
        return np.concatenate(outputs)

    def _run(self, inputs):
        try:
            return self._session.run("serving_default", inputs, [self._output])
        except self._session.tf.errors.OpError as error:
            raise ValueError(
                f"TensorFlow cannot run the model: {first_line(error)}"
            ) from error

    def all(self, images: ArrayLike, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Run images; return {"output": what a call gives}."""
        return {self._output: self(images, batch_size)}


def _shape(info):
    """Return the shape of a TensorInfo, with None for any size."""
    return tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)


def outputs_by_name(interpreter) -> dict[str, dict[str, Any]]:
    """{name in the signature: details} of an open file's outputs, in its order; a file
    without a signature has its tensors' names."""
    details = interpreter.get_output_details()
    names = {end["index"]: end["name"] for end in details}
    signatures = list(interpreter.get_signature_list())
    if len(signatures) == 1:
        found = interpreter.get_signature_runner(signatures[0]).get_output_details()
        names |= {end["index"]: name for name, end in found.items()}
    return {names[end["index"]]: end for end in details}


def _check_ends(path, inputs, outputs, most=None):
    if len(inputs) != 1 or not 1 <= len(outputs) <= (most or len(outputs)):
        ends = "one output" if most == 1 else "outputs"
        raise ValueError(
            f"`path` must be a model with one input and {ends}. '{path}' has "
            f"{len(inputs)} and {len(outputs)}"
        )
