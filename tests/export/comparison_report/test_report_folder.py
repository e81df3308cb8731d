"""A report's folder has one process at a time, and what it cannot be is said."""

import subprocess
import sys

import pytest

from export.comparison_report.report_folder import report_folder

HOLDS = """
import sys
from export.comparison_report.report_folder import report_folder
with report_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_reports_do_not_share_a_folder(tmp_path):
    command = [sys.executable, "-c", HOLDS, tmp_path / "out"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        unfinished = tmp_path / "out" / ".partial-of-the-other"
        unfinished.mkdir()
        with (
            pytest.raises(OSError, match="another process writes one"),
            report_folder(tmp_path / "out"),
        ):
            pass
        assert unfinished.is_dir()
        other.kill()  # the lock ends with the process
    with report_folder(tmp_path / "out") as folder:
        assert folder.is_dir() and not unfinished.exists()


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_is_no_folder(out, tmp_path):
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(OSError, match=f"`out` must be a folder .*{out}"),
        report_folder(tmp_path / out),
    ):
        pass
    assert (tmp_path / "file").read_text() == "mine"
