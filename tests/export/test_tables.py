"""What `vit-export` prints of a check for all targets."""

import export
from export.cli import output
from export.evaluation.check import CheckReport
from export.evaluation.tools import UnsupportedOp


def test_every_target_has_a_result_with_reason_and_fix(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    kinds = {"ADD": 3, "NEG": 1}

    def report(name, tool, unsupported=(), facts=None):
        return CheckReport(name, tool, kinds, unsupported, facts or {}, "2.12")

    neg = UnsupportedOp(
        "NEG", 1, "only int8 is supported", "vit_keras layers have none"
    )
    output.print_targets(
        "m.tflite",
        {
            "cpu": report("cpu", "LiteRT", facts={"partitions": 1}),
            "ethos_u55": report("ethos_u55", "Vela 5", (neg,)),
            "web": report("web", "rules", (UnsupportedOp("", 0, "its input is int8"),)),
            "mediatek": report("mediatek", "by list of 2026"),
            "micro": export.MissingDependency("pip install 'vit-keras-edge[edge]'"),
        },
    )
    shown = capsys.readouterr().out
    lines = {name: line for line in shown.splitlines() for name in line.split()[1:2]}
    assert "4 operators of 2 types; opens in TensorFlow Lite 2.12 and later" in shown
    assert "2/2 op types supported" in lines["cpu"] and "partitions: 1" in lines["cpu"]
    assert "1/2 op types supported" in lines["ethos_u55"]
    assert str(neg) in lines["ethos_u55"]
    assert "file not supported" in lines["web"] and "its input is" in lines["web"]
    assert "2/2 op types listed" in lines["mediatek"]
    assert "not checked" in lines["micro"] and "[edge]" in lines["micro"]
