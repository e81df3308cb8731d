"""NVIDIA Triton on the CPU, from the package `nvidia-pytriton`."""

import functools
import os
import pathlib
import shutil
import subprocess

from benchmarks.reliability.serving_protocols import MODEL

# Batches as TF Serving's are deployed.
CONFIGURATION = """\
name: "vit"
backend: "python"
max_batch_size: 8
input [{ name: "image_bytes" data_type: TYPE_STRING dims: [1] }]
output [
  { name: "valid" data_type: TYPE_BOOL dims: [1] },
  { name: "logits" data_type: TYPE_FP32 dims: [-1] },
  { name: "top_ids" data_type: TYPE_INT64 dims: [-1] }
]
dynamic_batching { preferred_batch_size: [8] max_queue_delay_microseconds: 2000 }
version_policy { latest { num_versions: 2 } }
instance_group [{ kind: KIND_CPU count: 1 }]
"""
PLACES = (
    "import sysconfig as s; print(s.get_path('purelib'), s.get_config_var('LIBDIR'))"
)


def command(python, models, ports):
    """See `serving_servers.Server.command`."""
    packages, libraries = _places(python)
    there = packages / "pytriton" / "tritonserver"
    # Its process for Python, which the package has for each version, goes beside it.
    backends = models.parent / "backends"
    shutil.copytree(there / "backends", backends)
    stub = there / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    (models / MODEL / "config.pbtxt").write_text(CONFIGURATION)
    line = [
        str(there / "bin" / "tritonserver"),
        f"--model-repository={models}",
        f"--backend-directory={backends}",
        *("--grpc-address=127.0.0.1", "--http-address=127.0.0.1"),
        *(f"--grpc-port={ports[0]}", f"--http-port={ports[1]}"),
        *("--model-control-mode=poll", "--repository-poll-secs=1"),
        *("--allow-metrics=false", "--exit-timeout-secs=5"),
        "--disable-auto-complete-config",
    ]
    return line, {
        # Its process for Python asks neither PYTHONPATH nor its own place.
        "PATH": f"{pathlib.Path(python).parent}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{libraries}:{packages / 'nvidia_pytriton.libs'}",
    }


@functools.cache
def _places(python):
    """Folders of an environment's packages and of its Python's library."""
    done = subprocess.run(
        [python, "-c", PLACES], check=True, capture_output=True, text=True
    )
    packages, libraries = done.stdout.split()
    return pathlib.Path(packages), pathlib.Path(libraries)


def prepare(saved_model, folder, version):
    """See `serving_servers.Server.prepare`."""
    shutil.copytree(saved_model, folder / "saved_model")
    model = pathlib.Path(__file__).with_name("triton_model.py")
    shutil.copy(model, folder / "model.py")
