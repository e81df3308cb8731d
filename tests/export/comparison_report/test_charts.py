"""Charts: they are XML, show every point, and their labels can be read."""

import itertools
import xml.etree.ElementTree as xml

import pytest

from export.comparison_report.chart_axis import Axis
from export.comparison_report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LETTER,
    LINE,
    RIGHT,
    TOP,
    WIDTH,
    Point,
    lines,
    scatter,
)


def points(places):
    return [
        Point(x, y, 0.5, f"scheme {i}", f"<{i}> & more", i)
        for i, (x, y) in enumerate(places)
    ]


def groups(text):
    return xml.fromstring(text).findall("g")


def test_points_are_where_their_values_are():
    drawn = groups(scatter(points([(1, 80), (2, 82), (4, 81)]), "t", ("x", "y")))
    xs = [float(g.find("circle").get("cx")) for g in drawn]
    ys = [float(g.find("circle").get("cy")) for g in drawn]
    assert xs[1] - xs[0] == pytest.approx((xs[2] - xs[1]) / 2, abs=0.1)
    assert ys[0] - ys[1] == pytest.approx(2 * (ys[2] - ys[1]), abs=0.2)
    bar = drawn[0].find("line")
    high, low = float(bar.get("y1")), float(bar.get("y2"))
    assert (high + low) / 2 == pytest.approx(ys[0], abs=0.1) and high < low
    assert [g.find("title").text for g in drawn][0] == "<0> & more"


@pytest.mark.parametrize("places", [[(1, 80)], [(1, 80)] * 3, [(1, 0), (900, 0)]])
def test_equal_values_have_a_place(places):
    for group in groups(scatter(points(places), "t", ("x", "y"), (80.0, "Keras"))):
        circle = group.find("circle")
        assert LEFT <= float(circle.get("cx")) <= WIDTH - RIGHT
        assert TOP <= float(circle.get("cy")) <= HEIGHT - BOTTOM


def test_labels_do_not_cover_each_other():
    near = [(1 + 0.02 * i, 80 + 0.05 * i) for i in range(6)]
    boxes = []
    for group in groups(scatter(points([*near, (2, 90)]), "t", ("x", "y"))):
        text = group.find("text")
        width = LETTER * len(text.text)
        left = float(text.get("x")) - (width if text.get("text-anchor") == "end" else 0)
        base = float(text.get("y"))
        boxes.append((left, base - LINE, left + width, base))
        assert LEFT <= left and left + width <= WIDTH
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize(
    ("values", "log", "ticks"),
    [
        ([0, 10], False, [0, 2.5, 5, 7.5, 10]),
        ([83.2, 84.1], False, [83.25, 83.5, 83.75, 84.0]),
        ([1, 100], True, [1, 2, 5, 10, 20, 50, 100]),
        ([1, 4], True, [1, 2, 3, 4]),  # near each other: not log
    ],
)
def test_ticks_are_round(values, log, ticks):
    assert Axis(values, 0, 100, log).ticks() == pytest.approx(ticks)


def test_a_line_for_each_name():
    rows = {"int8": {"a": 30.0, "b": 20.0}, "int8 for cpu": {"a": 31.0, "b": 25.0}}
    styles = {"int8": (0, 0), "int8 for cpu": (0, 1)}
    text = lines(rows, styles, "t", ("x", "y"))
    drawn = xml.fromstring(f"<div>{text}</div>")
    assert [g.find("title").text for g in drawn.iter("g")] == list(rows)
    assert all(len(g.findall("circle")) == 2 for g in drawn.iter("g"))
    legend = text.split("legend")[1]
    assert all(name in legend for name in rows) and 'class="d1"' in legend


def test_a_line_that_lacks_a_place_keeps_the_order():
    rows = {"float16": {"a": 1.0, "c": 2.0}, "int8": {"a": 1.0, "b": 2.0, "c": 3.0}}
    text = lines(rows, {"float16": (0, 0), "int8": (1, 0)}, "t", ("x", "y"))
    for line in xml.fromstring(f"<div>{text}</div>").iter("polyline"):
        xs = [float(point.split(",")[0]) for point in line.get("points").split()]
        assert xs == sorted(xs)


def test_neighbours_of_one_name_share_a_label():
    near = [Point(x, 80, 0.0, "int8", f"at {x}", 0) for x in (1.0, 1.001, 2.0)]
    drawn = groups(scatter(near, "t", ("x", "y")))
    assert [len(g.findall("text")) for g in drawn] == [1, 0, 1]
