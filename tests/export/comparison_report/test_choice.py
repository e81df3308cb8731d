"""Which file a report takes, from figures alone."""

import pathlib

import pytest

from export.comparison_report.choice import CostLimits, choose
from export.comparison_report.measure_file import MeasuredFile
from export.comparison_report.plan_files import PlannedFile
from export.comparison_report.scores import FileScores
from export.comparison_report.verdicts import Verdict


def measured(scheme, mb, drop, noise=0.5, ms=1.0, supported=True, failed=None):
    scores = FileScores("accuracy", 0.8 - drop / 100, 0.01, drop, noise, 0.9, 30.0, 100)
    return MeasuredFile(
        planned=PlannedFile(scheme, "any"),
        path=pathlib.Path(scheme),
        failed=failed,
        size_bytes=round(1e6 * mb),
        scores=None if failed else scores,
        verdicts=(Verdict("any", supported, "a tool"),),
        latency_ms=ms,
    )


FILES = [
    measured("float32", 8.0, 0.0, 0.0, ms=4.0),
    measured("float16", 4.0, -0.1, 0.1, ms=4.5),
    measured("int8", 2.0, 0.9, 0.5, ms=1.0),
    measured("dynamic_int4", 1.0, 1.1, 0.5, ms=2.0),
]


@pytest.mark.parametrize(
    ("budget", "taken"),
    [
        # 0.9 points are 1.8 standard errors, 1.1 are 2.2.
        ({}, "int8"),
        ({"max_mb": 2.0}, "int8"),  # the more accurate of two, and the limit is inside
        ({"max_mb": 1.5}, "dynamic_int4"),
        ({"max_mb": 0.5}, None),
        ({"max_ms": 2.0}, "int8"),
        ({"max_ms": 4.2}, "float32"),
        ({"max_ms": 9.0}, "float16"),  # more accurate than float32, by chance
        ({"max_drop": 1.1}, "dynamic_int4"),
        ({"max_drop": 1.0}, "int8"),
        ({"max_drop": 0.5}, "float16"),
        ({"max_drop": 0.0, "max_ms": 4.2}, "float32"),
        ({"max_drop": 0.0, "max_mb": 3.0}, None),
    ],
)
def test_rules(budget, taken):
    found = choose(FILES, CostLimits(**budget))
    assert (found and found.planned.scheme) == taken


def test_of_equal_files_the_faster():
    files = [measured("int8", 2.0, 0.0, ms=3.0), measured("float16", 2.0, 0.0, ms=2.0)]
    for budget in (CostLimits(), CostLimits(max_mb=2.0), CostLimits(max_drop=1.0)):
        assert choose(files, budget) is files[1]


def test_refused_files_are_not_taken():
    refused = measured("int8", 1.0, 0.0, supported=False)
    unasked = measured("int8", 2.0, 0.0, supported=None)
    failed = measured("int8", 1.0, 0.0, failed="ParityError: too far")
    assert choose([refused, unasked, failed], CostLimits()) is unasked
    assert choose([refused, failed], CostLimits(max_mb=5.0)) is None
    assert choose([], CostLimits()) is None


def test_an_exact_file_is_within_chance():
    assert choose([measured("float32", 8.0, 0.0, 0.0)], CostLimits()) is not None
    assert choose([measured("float32", 8.0, 0.01, 0.0)], CostLimits()) is None


@pytest.mark.parametrize("budget", [{}, {"max_mb": 9.0}, {"max_drop": 5.0}])
def test_a_file_of_unknown_worth_is_not_taken(budget):
    files = [measured("int8", 1.0, float("nan")), measured("float32", 8.0, 0.0)]
    assert choose(files, CostLimits(**budget)) is files[1]
    assert choose(files[:1], CostLimits(**budget)) is None


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({}, "the smallest file whose loss against Keras is within chance"),
        ({"max_mb": 2.0}, "the most accurate file with at most 2 MB"),
        ({"max_mb": 2.0, "max_ms": 3.5}, "at most 2 MB and at most 3.5 ms"),
        ({"max_drop": 1.0}, "the smallest file with a loss of at most 1 points"),
    ],
)
def test_the_rule_is_said(budget, words):
    assert words in CostLimits(**budget).rule


@pytest.mark.parametrize(
    "wrong", [{"max_mb": 0}, {"max_ms": -1.0}, {"max_drop": -0.1}, {"max_mb": "nan"}]
)
def test_wrong_budgets(wrong):
    (name,) = wrong
    wrong = {name: float(wrong[name])}
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        CostLimits(**wrong)
