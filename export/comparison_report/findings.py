"""`ComparisonReport`: all that a report says, before it is a page or a table."""

import dataclasses
import pathlib

from .choice import CostLimits
from .measure_file import MeasuredFile


@dataclasses.dataclass(frozen=True)
class ComparisonReport:
    """What `write_report` found and wrote.

    Attributes:
        page: the HTML page.
        table: the CSV file.
        model: what the user calls the model.
        metric: name of the metric of the model's head.
        keras, keras_noise: the metric of the Keras model, and its standard error.
        images: which images are reported, in words.
        calibration: where the others, for calibration, come from.
        files: measured, target by target.
        impossible: {"int8 for web": why not}.
        budget: by which files are taken.
        taken: {target: the file to take, or None}.
        commands: {target: what makes the file taken}.
        command: what made this report, or "".
        processor: of the latencies.
        threads, runs: of the latencies.
        versions: of the packages.
        notes: on the data.
    """

    page: pathlib.Path
    table: pathlib.Path
    model: str
    metric: str
    keras: float
    keras_noise: float
    images: str
    calibration: str
    files: tuple[MeasuredFile, ...]
    impossible: dict[str, str]
    budget: CostLimits
    taken: dict[str, MeasuredFile | None]
    commands: dict[str, str]
    command: str
    processor: str
    threads: int
    runs: int
    versions: dict[str, str]
    notes: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets, in order."""
        return tuple(self.taken)
