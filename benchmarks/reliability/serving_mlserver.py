"""MLServer, with a SavedModel in a runtime of its user's."""

import json
import pathlib
import shutil
import urllib.request

from benchmarks.reliability.serving_protocols import MODEL

RUNTIME = "benchmarks.reliability.mlserver_model.SavedModelRuntime"


def command(python, models, ports):
    """See `serving_servers.Server.command`."""
    settings = {
        "host": "127.0.0.1",
        "grpc_port": ports[0],
        "http_port": ports[1],
        "grpc_max_message_length": -1,
        "metrics_endpoint": None,
        "parallel_workers": 0,  # one process, as the others
        "debug": False,
    }
    (models / "settings.json").write_text(json.dumps(settings))
    return [str(pathlib.Path(python).with_name("mlserver")), "start", str(models)], {}


def prepare(saved_model, folder, version):
    """See `serving_servers.Server.prepare`; batches as TF Serving's are deployed."""
    shutil.copytree(saved_model, folder / "saved_model")
    settings = {
        "name": MODEL,
        "implementation": RUNTIME,
        "max_batch_size": 8,
        "max_batch_time": 0.002,
        "parameters": {"uri": "./saved_model", "version": str(version)},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))


def announce(ports):
    """Tell it to look for new versions."""
    url = f"http://127.0.0.1:{ports[1]}/v2/repository/models/{MODEL}/load"
    urllib.request.urlopen(urllib.request.Request(url, b"", method="POST")).close()
