"""Files for running a SavedModel in TF Serving, and a client.

Formats: TF Serving's `model_server_config.proto`, `session_bundle_config.proto` and
`monitoring_config.proto`, as text.
"""

import json
import os
import pathlib
import shutil

from vit_keras.atomic import publishing

from ..errors import missing
from ..report import versions
from . import client

INSIDE = "2.20.0"  # TensorFlow's release in the image
IMAGE = f"tensorflow/serving:{INSIDE}"
# Batch sizes that requests are padded to; the last is the maximum.
BATCHES = (1, 2, 4, client.MOST)

# Of the C library: each thread that decodes would keep a heap of its own, and what the
# server holds would grow for an hour (docs/reliability.md).
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}

MODELS = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 2 }} }}
  }}
}}
"""

BATCHING = """\
max_batch_size {{ value: {largest} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 64 }}
num_batch_threads {{ value: 2 }}
{allowed}
"""

MONITORING = """\
prometheus_config { enable: true, path: "/monitoring/prometheus/metrics" }
"""

COMPOSE = """\
services:
  serving:
    image: {image}
    environment: {environment}
    ports: ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    volumes:
      - {models}:/models/{name}:ro
      - .:/config:ro
    command:
      - --model_config_file=/config/models.config
      - --enable_batching
      - --batching_parameters_file=/config/batching_parameters.txt
      - --monitoring_config_file=/config/monitoring.config
      - --enable_model_warmup
    restart: unless-stopped
"""

README = """\
# {name} on TF Serving

    docker compose up
    python client.py {name} photo.jpg

| file | contents |
|---|---|
| `docker-compose.yml` | {image} on this machine's ports 8500 (gRPC) and 8501 (REST) |
| `models.config` | versions of `{name}` that are served: the latest two |
| `batching_parameters.txt` | requests wait 2 ms to form a batch of {largest} at most |
| `monitoring.config` | metrics at `:8501/monitoring/prometheus/metrics` |
| `client.py` | a client for REST and gRPC, {largest} images per request |

A request of more than {largest} images is refused; `client.py` sends several.

Tested when this was written: the SavedModel with TensorFlow's own loader,
`models.config` with TF Serving's message definition, the batches with TensorFlow's own
scheduler, the client with a server that speaks the same protocol. Not tested: the
container and the server itself.

The image is pinned to the newest release when this was written, so that only you change
the server. It contains TensorFlow {inside}; the model is from {tensorflow}. TensorFlow
guarantees that a later release reads files of an earlier one, not the reverse. The C
loader of {inside} was tested on all signatures but `classify`: its ids and labels were
those of 2.21.0, its values within 8e-7. If the server lacks an operator, take a newer
image.

`predict_bytes` reads JPEG, PNG, WebP, BMP and GIF. Of an animated GIF or PNG it reads
the first picture; transparent pixels of a GIF are black. Animated WebP, BMP of less
than 8 bits and everything else have `valid` false.

A new version goes beside the old one, as `{parent}/2`; compare them first:

    vit-export compare {parent}/{version} {parent}/2 --data PHOTOS
"""


def check_version(saved_model):
    """Return a SavedModel's directory as a path, if its name is a version.

    Raises:
        ValueError: its name is no version number.
    """
    path = pathlib.Path(saved_model)
    if not path.name.isdigit():
        raise ValueError(
            "the SavedModel must be named NAME/VERSION, with a number as version. "
            f"Received: '{saved_model}'"
        )
    return path


def write_serving_files(saved_model, folder):
    """Write a TF Serving configuration, compose file, client and README.

    Arguments:
        saved_model: the directory, NAME/VERSION.
        folder: where to write; created if missing. Files of an earlier call are
            replaced.

    Raises:
        ValueError: the directory's name is no version number.
        OSError: a file cannot be written.
    """
    saved_model, folder = check_version(saved_model), pathlib.Path(folder)
    installed = versions()
    if "tensorflow" not in installed:
        raise missing("tensorflow")
    folder.mkdir(parents=True, exist_ok=True)
    parent = os.path.relpath(saved_model.resolve().parent, folder.resolve())
    known = {
        "name": saved_model.resolve().parent.name,
        "version": saved_model.name,
        "parent": parent,
        "models": parent if parent.startswith(".") else f"./{parent}",
        "image": IMAGE,
        "environment": json.dumps(ENVIRONMENT),
        "inside": INSIDE,
        "largest": BATCHES[-1],
        "allowed": "\n".join(f"allowed_batch_sizes: {size}" for size in BATCHES),
        "tensorflow": installed["tensorflow"],
    }
    for name, text in (
        ("models.config", MODELS.format(**known)),
        ("batching_parameters.txt", BATCHING.format(**known)),
        ("monitoring.config", MONITORING),
        ("docker-compose.yml", COMPOSE.format(**known)),
        ("README.md", README.format(**known)),
    ):
        with publishing(folder / name) as work:
            work.write_text(text, encoding="utf-8")
    with publishing(folder / "client.py") as work:
        shutil.copyfile(client.__file__, work)
