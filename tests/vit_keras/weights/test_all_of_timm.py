"""Whatever is loaded from timm computes as there, or is refused."""

import pytest

from tests.vit_keras.weights import against_timm
from tests.vit_keras.weights.against_timm import (
    arguments_of,
    is_plain,
    names_of,
    signature,
)
from vit_keras import CheckpointError
from vit_keras.weights.timm_names import read_name


def said_of(name):
    try:
        return read_name(name)
    except CheckpointError:
        return "refused"


def one_of_each(timm, monkeypatch):
    """The first name of each network that is read the same."""
    chosen = {}
    for name in names_of(timm):
        about = arguments_of(timm, monkeypatch, name)
        chosen.setdefault(signature(*about, said_of(name)), name)
    return list(chosen.values())


def check(timm, monkeypatch, names, folder):
    found = against_timm.rows(timm, monkeypatch, names, folder)
    for name, (result, why) in found.items():
        print(f"{name:45} {result:8} {why[:300]}")
    wrong = {name: why for name, (result, why) in found.items() if result == "wrong"}
    assert not wrong
    plain = {n for n in names if is_plain(*arguments_of(timm, monkeypatch, n))}
    assert plain == {name for name, (result, _) in found.items() if result == "equal"}


def test_a_name_of_each_network(timm, monkeypatch, tmp_path):
    names = one_of_each(timm, monkeypatch)
    assert len(names) > 60
    check(timm, monkeypatch, names, tmp_path)


@pytest.mark.slow
def test_all_names(timm, monkeypatch, tmp_path):
    names = names_of(timm)
    assert len(names) > 250
    check(timm, monkeypatch, names, tmp_path)
