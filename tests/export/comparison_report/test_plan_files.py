"""The pairs of scheme and target in a report."""

import pytest

from export.comparison_report.plan_files import (
    DEFAULT_SCHEMES,
    DEFAULT_TARGETS,
    plan_files,
)
from export.schemes import SCHEMES
from export.targets import TARGETS


def test_defaults_are_possible():
    files, impossible = plan_files()
    assert [file.scheme for file in files] == list(DEFAULT_SCHEMES)
    assert {file.target for file in files} == set(DEFAULT_TARGETS)
    assert impossible == {}


def test_pairs_that_a_target_does_not_take_are_named():
    files, impossible = plan_files(("float16", "int8", "int8"), ("cpu", "edge_tpu"))
    names = [file.name for file in files]
    assert names == ["float16_cpu", "int8_cpu", "int8_edge_tpu"]
    assert impossible == {"float16 for edge_tpu": "edge_tpu takes int8"}


def test_all_pairs():
    files, impossible = plan_files("all", "all")
    pairs = {(file.scheme, file.target) for file in files}
    assert pairs == {(s, t) for t, row in TARGETS.items() for s in row.schemes}
    assert len(files) + len(impossible) == len(SCHEMES) * len(TARGETS)
    assert len({file.name for file in files}) == len(files)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"schemes": ("int9",)}, "`scheme` must be one of float32, .*'int9'"),
        ({"targets": "toaster"}, "`target` must be one of any, .*'toaster'"),
        ({"schemes": ()}, "`schemes` must be one name at least"),
        ({"schemes": "float32", "targets": "npu"}, "npu takes int8, int8_residual16"),
    ],
)
def test_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        plan_files(**arguments)
