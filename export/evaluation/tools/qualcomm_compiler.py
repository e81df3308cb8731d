"""Qualcomm's compiler for Hexagon NPUs, through LiteRT's plugin, and what it says."""

import collections
import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import subprocess
import tempfile
import time

from ...child_process import check_not_killed
from ...errors import MissingDependency, missing
from ...flatbuffer.objects import names_of

# Packages with the compiler's libraries, and where; the first is Qualcomm's for LiteRT.
# Installed where its download fails, it has none.
SDKS = {
    "ai_edge_litert_sdk_qualcomm": "data/lib/x86_64-linux-clang",
    "onnxruntime_qnn": "",
}
# Of QNN's words, what they mean; in this order.
REASONS = (
    (r"incorrect Value \d+, expected >= (\d+)", "it needs Hexagon v{} or later"),
    (r"SocModel doesn't support (FP16)", "it has no {}"),
    (r"(library version [\d.]+ is mismatched[^\n]*)", "{}"),
    (r"QnnBackend_validateOpConfig failed (\d+)", "QNN refuses it, error {}"),
    (r"::ERROR:(could not create op[^\n]*)", "{}"),
)


@dataclasses.dataclass(frozen=True)
class QualcommResult:
    """What the compiler made of a file for one SoC.

    Attributes:
        soc: name in `SOCS`.
        status: exit status; 0 is success.
        taken, total: operators that the NPU takes, of all.
        partitions: pieces that it takes; the others run elsewhere.
        refused: {operator: how often}.
        reasons: why, in words.
        read_bytes, written_bytes, spilled_bytes: from and to DRAM, one run.
        size_bytes: of the compiled file.
        seconds: that it took.
        version: of Qualcomm's SDK (QAIRT), or "".
    """

    soc: str
    status: int
    taken: int
    total: int
    partitions: int
    refused: dict[str, int]
    reasons: tuple[str, ...]
    read_bytes: int
    written_bytes: int
    spilled_bytes: int
    size_bytes: int
    seconds: float
    version: str

    @property
    def whole(self) -> bool:
        """Whether the NPU runs all operators, in one piece."""
        return self.status == 0 and self.taken == self.total and self.partitions == 1

    @property
    def facts(self) -> dict[str, float]:
        """Numbers for a report. The compiler estimates no latency."""
        return {
            "partitions": self.partitions,
            "dram_read_mb": round(self.read_bytes / 1e6, 2),
            "dram_written_mb": round(self.written_bytes / 1e6, 2),
            "dram_spilled_mb": round(self.spilled_bytes / 1e6, 2),
            "compiled_mb": round(self.size_bytes / 1e6, 2),
            "seconds": round(self.seconds, 1),
        }


def compiler_name() -> str:
    """Return the packages that make up the compiler, with versions.

    Raises:
        MissingDependency: one is not installed, or the system is no x86-64 Linux.
    """
    package, _ = find_sdk()
    _plugin()
    names = (package.replace("_", "-"), "ai-edge-litert")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def compile_qualcomm(path, out, soc) -> QualcommResult:
    """Compile a file for a SoC; `out` is written if the compiler succeeds."""
    program, plugin = _plugin()
    _, libraries = find_sdk()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        # The plugin is linked to the library of another backend, which onnxruntime-qnn
        # does not have, and takes no symbol from it.
        stand_in = pathlib.Path(folder, "libQnnLpai.so")
        stand_in.symlink_to(libraries / "libQnnSaver.so")
        done = subprocess.run(
            [
                *(str(program), "--cmd=apply", f"--model={os.path.abspath(path)}"),
                *(f"--o={os.path.abspath(out)}", f"--libs={plugin}"),
                *("--soc_manufacturer=Qualcomm", f"--soc_model={soc}"),
            ],
            env={**os.environ, "LD_LIBRARY_PATH": f"{libraries}:{folder}"},
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
        )
    check_not_killed("Qualcomm's compiler", done.returncode)
    seconds = time.monotonic() - start
    # LiteRT writes to stderr and QNN to stdout: merged, they would cut each other.
    return _read_log(done.stderr + done.stdout, soc, done.returncode, out, seconds)


def _read_log(log, soc, status, out, seconds):
    from ai_edge_litert import schema_py_generated as schema

    names, out = names_of(schema.BuiltinOperator), pathlib.Path(out)
    # Only these lines count: other errors are of fusions that were tried and undone.
    pattern = r"LiteRT Op #\d+ '\w+' \(code=(\d+)\) is not supported"
    refused = collections.Counter(names[int(c)] for c in re.findall(pattern, log))
    pattern = r"selected (\d+) ops, from a total of (\d+) ops\. resulted in (\d+)"
    taken, total, parts = map(int, (re.findall(pattern, log) or [(0, 0, 0)])[0])
    reasons = [
        words.format(text)
        for pattern, words in REASONS
        for text in sorted(set(re.findall(pattern, log)))
    ]

    def sum_of(field):
        return sum(map(int, re.findall(rf"\b{field}_bytes=(\d+)", log)))

    return QualcommResult(
        *(soc, status, taken, total, parts, dict(refused), tuple(reasons[:1])),
        *(sum_of("read_total"), sum_of("write_total"), sum_of("spill")),
        size_bytes=out.stat().st_size if out.is_file() and status == 0 else 0,
        seconds=seconds,
        version=(re.findall(r"SDK version: v([\d.]+)\.\d{12}", log) or [""])[0],
    )


def find_sdk() -> tuple[str, pathlib.Path]:
    """Return the package that has the compiler's libraries, and their folder.

    Raises:
        MissingDependency: there is none.
    """
    for package, folder in SDKS.items():
        root = package_folder(package)
        if root is not None and (root / folder / "libQnnHtp.so").is_file():
            return package, root / folder
    raise missing("Qualcomm's compiler (of x86-64 Linux)", "qualcomm")


def _plugin():
    """Return LiteRT's program that applies plugins, and the folder of Qualcomm's."""
    root = package_folder("ai_edge_litert")
    if root is None or not (root / "tools" / "apply_plugin_main").is_file():
        raise MissingDependency("Qualcomm's compiler runs on x86-64 Linux alone")
    return root / "tools" / "apply_plugin_main", root / "vendors/qualcomm/compiler"


def package_folder(package) -> pathlib.Path | None:
    """Return the folder of an installed package, without importing it: that of
    onnxruntime_qnn would need onnxruntime."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return pathlib.Path(next(iter(spec.submodule_search_locations)))
