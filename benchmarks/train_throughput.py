"""Training images/s of our ViT beside timm's and stock Keras', in one call.

    python benchmarks/train_throughput.py --models ti16 s16 b16 l16 --out FOLDER

writes `FOLDER/train_throughput_BACKEND-DEVICE.csv`. Each contestant (`--contestants`,
see `train_contestants.py`) runs in a process of its own, again and again in turn; a row
is the median of all windows of `--steps` steps, without the first one of each process.
Synthetic images that lie on the device, AdamW; bfloat16 and wall-clock time on a GPU,
float32 and CPU time on a CPU, which a busy machine leaves alone. All whose architecture
is timm's start from timm's weights, and their first losses must be timm's; the others
must learn. Contestants besides `ours` and `timm` are changes to `ours` that show what
limits it; `--trace FOLDER` writes what the device did, for Perfetto.

On a machine with a GPU, PyTorch, timm and JAX, but no network and no TensorFlow:

    pip download --no-deps -d wheels keras==3.15.1 namex optree  # for its Python
    pip install --no-index --no-deps --target site wheels/*.whl  # there
    PYTHONPATH=site:. python benchmarks/train_throughput.py --models ti16 s16 b16 l16 \\
        --contestants ours fused scan graphs timm --out benchmarks/results

A proof without a GPU that all of it works:

    python benchmarks/train_throughput.py --models toy --image-size 32 --batch-size 8 \\
        --contestants all --steps 2 --rounds 1 --out benchmarks/results
"""

import argparse
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from machine import write_rows
from train_contestants import CONTESTANTS, SIZES

HERE = pathlib.Path(__file__).parent
# Dense bfloat16 FLOP/s by a part of the device's name, from NVIDIA's data sheets.
PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
FIELDS = ("contestant", "model", "image_size", "batch_size", "images_per_second")
FIELDS += ("ratio_to_ours", "ratio_to_timm", "mfu", "peak_memory_mb", "compile_seconds")
FIELDS += ("windows", "precision", "device", "versions")
DEFAULT = ("ours", "fused", "stock", "timm")
NUMBERS = ("image_size", "batch_size", "steps", "windows")


def flops_of(name, image_size):
    """Of one training image: thrice the forward pass, two for a multiply-add."""
    width, depth, _, mlp, patch = SIZES[name]
    tokens = (image_size // patch) ** 2 + 1
    block = tokens * (4 * width * width + 2 * width * mlp) + 2 * tokens**2 * width
    return 6 * (depth * block + tokens * width * patch * patch * 3)


def run(options, model, name, weights):
    """What one contestant measured in a process of its own, or None if it failed."""
    numbers = [f"--{n.replace('_', '-')}={getattr(options, n)}" for n in NUMBERS]
    trace = f"--trace={options.trace / f'{model}-{name}'}" if options.trace else ""
    given = (f"--contestant={name}", f"--model={model}", f"--weights={weights}", trace)
    flags = f"{os.environ.get('XLA_FLAGS', '')} {CONTESTANTS[name].flags}".strip()
    environment = {
        **os.environ,
        "KERAS_BACKEND": options.backend,
        "XLA_FLAGS": flags,
        # A later round need not compile again.
        "JAX_COMPILATION_CACHE_DIR": str(weights.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, HERE / "train_contestants.py", *filter(None, given)]
    command += numbers
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        print(f"{name} {model} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def check_losses(name, losses, precision, expected):
    """That the first steps are timm's, or at least learn.

    Raises:
        SystemExit: they are not, and no speed is worth anything.
    """
    if not losses[-1] < losses[0]:
        raise SystemExit(f"{name} does not learn: losses {losses}")
    # Of a loss near 7: float32 in another order, or bfloat16 with its 8 bits.
    tolerance = 1e-3 if precision == "float32" else 3e-2
    if expected is not None:
        for one, other in zip(losses, expected, strict=True):
            if not math.isclose(one, other, rel_tol=tolerance):
                raise SystemExit(f"{name}: losses {losses}, those of timm {expected}")


def measure(options, model, folder):
    """The rows of one model size, and whether one of its contestants failed."""
    weights, results = folder / f"{model}.safetensors", {}
    # timm first: it leaves the weights that the others start from.
    names = sorted(options.contestants, key=lambda n: CONTESTANTS[n].library != "timm")
    for _ in range(options.rounds):
        for name in names:  # in turn, so that a busy machine is so for all
            if result := run(options, model, name, weights):
                results.setdefault(name, []).append(result)
    timm = results.get("timm") or results.get("timm_eager")
    for name, rounds in results.items():
        same = timm and CONTESTANTS[name].comparable
        expected = timm[0]["losses"] if same else None
        check_losses(name, rounds[0]["losses"], rounds[0]["precision"], expected)
    times = {n: [s for r in rs for s in r["seconds"]] for n, rs in results.items()}
    work = options.batch_size * options.steps
    speeds = {name: work / statistics.median(values) for name, values in times.items()}
    return [
        row_of(options, model, name, speeds, len(times[name]), results[name][0])
        for name in options.contestants
        if name in results
    ], len(results) < len(names)


def row_of(options, model, name, speeds, number, result):
    """A row of the table."""
    speed, device = speeds[name], result["device"]
    used = speed * flops_of(model, options.image_size)
    peak = next((flops for part, flops in PEAKS.items() if part in device), None)
    against = [speeds.get(other) for other in ("ours", "timm")]
    values = (name, model, options.image_size, options.batch_size, f"{speed:.1f}")
    values += tuple(f"{speed / other:.3f}" if other else "" for other in against)
    values += (f"{used / peak:.3f}" if peak else "", f"{result['peak'] / 1e6:.0f}")
    values += (f"{result['compile_seconds']:.0f}", number)
    values += (result["precision"], device, result["versions"])
    return dict(zip(FIELDS, values, strict=True))


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", default="jax", help="of Keras")
    parser.add_argument("--models", nargs="+", default=["s16", "b16"], choices=SIZES)
    parser.add_argument("--contestants", nargs="+", default=DEFAULT)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20, help="in a window")
    parser.add_argument("--windows", type=int, default=3, help="of a process")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each")
    parser.add_argument("--trace", type=pathlib.Path, help="a folder, for Perfetto")
    parser.add_argument("--out", type=pathlib.Path, help="a folder for the CSV file")
    options = parser.parse_args()
    if options.contestants == ["all"]:
        options.contestants = list(CONTESTANTS)
    for name in options.contestants:
        if name not in CONTESTANTS:
            what = "".join(f"\n  {n}: {c.what}" for n, c in CONTESTANTS.items())
            parser.error(f"--contestants must be all or some of{what}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)  # not found out at the end
    rows, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            more, missing = measure(options, model, pathlib.Path(folder))
            failed |= missing
            rows += more
            for row in more:
                print(row, flush=True)
            if options.out and rows:  # so that a cut-off call leaves the sizes before
                path = options.out / file_name(options, rows)
                write_rows(path, FIELDS, rows)
    return int(failed)


def file_name(options, rows):
    """Named after the device, and a toy after what it is."""
    devices = [row["device"] for row in rows if row["contestant"][:4] != "timm"]
    device = re.sub(r"[^A-Za-z0-9]+", "-", (devices or [rows[0]["device"]])[0])
    toy = "toy-" if "toy" in options.models else ""
    return f"train_throughput_{toy}{options.backend}-{device}.csv"


if __name__ == "__main__":
    sys.exit(main())
