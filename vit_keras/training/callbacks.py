"""Callbacks of a run: NaN check, validation, input speed, TensorBoard."""

import contextlib
import time

import keras
import numpy as np

from ..atomic import publishing
from ..heads import HEADS
from .devices import predictor
from .metrics import measure
from .processes import process_index, undistributed


class StopOnNaN(keras.callbacks.Callback):
    """Stops a run whose loss or weights are not finite; `message` has the reason.

    Arguments:
        steps: number of steps in a checkpoint interval.
        state: state of a run with checkpoints, or None; its `interval` is the last
            checkpoint's.
    """

    # Keras then calls it in a thread, and no step waits for the previous loss.
    async_safe = True

    def __init__(self, steps, state=None):
        super().__init__()
        self.steps, self.state = steps, state
        self.interval, self.bad = 0, []

    def on_epoch_begin(self, epoch, logs=None):
        self.interval = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss):
            self._stop(batch + 1, f"the loss became {loss}")

    def on_epoch_end(self, epoch, logs=None):
        # The last step may have broken the weights after its loss was computed.
        if not self.bad and not all(
            np.isfinite(keras.ops.convert_to_numpy(weight.value)).all()
            for weight in self.model.trainable_variables
        ):
            self._stop(self.steps, "the weights became infinite or NaN")

    def _stop(self, step, what):
        self.bad.append((self.interval * self.steps + step, what))
        self.model.stop_training = True

    @property
    def message(self):
        if not self.bad:
            return ""
        step, what = min(self.bad)
        text = f"{what} at step {step}: use a smaller `learning_rate`, or more `warmup`"
        if self.state is None:
            return text
        saved = self.state["interval"] * self.steps
        last = f"The last good checkpoint is that of step {saved}"
        return f"{text}. {last if saved else 'There is no checkpoint yet'}"


@contextlib.contextmanager
def averaged(model):
    """Replace the model's weights by their moving average, if any, inside a block.

    Weights are copied, so that they are restored to the last bit; Keras'
    `SwapEMAWeights` adds and subtracts.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema or not optimizer.built:
        yield
        return
    # Keras has no public name for the averages.
    averages = optimizer._model_variables_moving_average
    pairs = list(zip(model.trainable_variables, averages, strict=True))
    before = [keras.ops.convert_to_numpy(weight.value) for weight, _ in pairs]
    try:
        for weight, average in pairs:
            weight.assign(keras.ops.convert_to_numpy(average.value))
        yield
    finally:
        for (weight, _), value in zip(pairs, before, strict=True):
            weight.assign(value)


class Validate(keras.callbacks.Callback):
    """Evaluates after each interval, saves the best weights, and stops early.

    Arguments:
        classifier: the model to evaluate; it shares weights with the fitted one.
        batches: labelled images, or None.
        best: file for the best weights.
        state: the run's state; gets `best` and `waited`.
        patience: number of checks without a better metric, that of the model's head in
            `HEADS`, before stopping, or None.
        watch: a `StopOnNaN`; once it has a `message`, nothing is evaluated.
        part: the part of the model that takes the batches, or None for all of it.
    """

    def __init__(self, classifier, batches, best, state, patience, watch, part=None):
        super().__init__()
        self.classifier, self.batches, self.best = classifier, batches, best
        self.watch, self.predict = watch, predictor(part or classifier)
        self.state, self.patience = state, patience

    def on_epoch_end(self, epoch, logs=None):
        if self.batches is None or self.watch.message:
            return
        head = self.classifier.config.head
        with averaged(self.model):
            pairs = (self.batches[i] for i in range(len(self.batches)))
            found = measure(((self.predict(x), y) for x, y in pairs), head)
            score = HEADS[head].score(found)
            if score > self.state.get("best", -np.inf):
                self.state["best"], self.state["waited"] = score, 0
                if process_index()[0] == 0:
                    with publishing(self.best) as work, undistributed():
                        self.classifier.save_weights(work)
            else:
                self.state["waited"] = self.state.get("waited", 0) + 1
        if logs is not None:
            logs |= {f"val_{name}": value for name, value in found.items()}
        if self.patience is not None and self.state["waited"] >= self.patience:
            self.model.stop_training = True
            self.state["finished"] = True


class InputSpeed(keras.callbacks.Callback):
    """Warns once if the input pipeline is slower than the training steps.

    Arguments:
        stream: the `Stream`.
        images: number of images in an interval.
        warn: function that prints a line of text.
    """

    def __init__(self, stream, images, warn):
        super().__init__()
        self.stream, self.images, self.warn = stream, images, warn
        self.warned = False

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()
        self.stream.images_per_second()

    def on_epoch_end(self, epoch, logs=None):
        steps = self.images / (time.perf_counter() - self.started)
        inputs = self.stream.images_per_second()
        if logs is not None:
            logs |= {"images_per_second": steps, "input_images_per_second": inputs}
        # Threads that are always busy are what the steps wait for.
        if inputs < 1.1 * steps and epoch and not self.warned:
            self.warned = True
            self.warn(
                f"input-bound: decoding and augmentation {inputs:,.0f} images/s, "
                f"training steps {steps:,.0f} images/s"
            )


class TensorBoard(keras.callbacks.Callback):
    """Writes the logs of each interval for TensorBoard.

    Keras' callback of this name needs TensorFlow on every backend; this one only needs
    the package tensorboard.

    Arguments:
        folder: of the event files; a resumed run adds one.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, folder):
        super().__init__()
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise ImportError(
                "`tensorboard` needs its package: "
                'pip install "vit-keras-edge[tensorboard]"'
            ) from error
        self.writer = Writer(str(folder))

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            self.writer.add_scalar(name, float(value), epoch)
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()
