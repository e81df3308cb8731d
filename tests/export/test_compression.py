"""Zeros, few values, and what of them reaches the file."""

import json
import pathlib
import tomllib

import keras
import numpy as np
import pytest

import export
import vit_keras
from export.cli import training_commands
from export.compression import tfmot_internals
from export.compression.kernels import kernels
from tests.models import exported as two_blocks
from tests.models import slow_but

SCHEMES = ("float32", "dynamic_int8", "int8")
PYPROJECT = pathlib.Path(__file__).parents[2] / "pyproject.toml"


def exported():
    """One block: what is shown of it holds for more."""
    return two_blocks(num_layers=1)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (32, 32, 32, 3)).astype("float32"), rng.integers(
        0, 10, 32
    )


def fit(model, batch, callback, epochs=2, optimizer="adamw"):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # A graph takes longer to build than these steps; `test_masks_hold` has one.
    model.compile(optimizer, loss, jit_compile=False, run_eagerly=True)
    model.fit(*batch, 8, epochs=epochs, verbose=0, callbacks=[callback])


def arrays(model):
    return {path: np.asarray(k.value) for path, k in kernels(model).items()}


@pytest.fixture(scope="module")
def sparse(batch):
    model = exported()
    pruning = export.prune(model, sparsity=0.5)
    fit(model, batch, pruning)
    return pruning.strip()


@pytest.fixture(scope="module")
def clustered(batch):
    model = exported()
    clustering = export.cluster(model, 16)
    fit(model, batch, clustering)
    return clustering.strip()


def test_a_share_of_every_kernel_is_zero(sparse):
    found = arrays(sparse)
    assert len(found) == 6
    for path, kernel in found.items():
        # Half of an even number of weights, all different: exact.
        assert np.mean(kernel == 0) == 0.5, path
    for name in ("embedding", "head"):
        assert not np.any(np.asarray(sparse.get_layer(name).kernel.value) == 0)


def test_what_is_pruned_is_what_is_smallest(batch):
    """At rate 0, the zeros are the smaller half of the weights as they were."""
    model = exported()
    before = arrays(model)
    pruning = export.prune(model, sparsity=0.5)
    fit(model, batch, pruning, optimizer=keras.optimizers.SGD(0.0))
    for path, kernel in arrays(model).items():
        size = np.abs(before[path])
        assert np.array_equal(kernel == 0, size < np.median(size)), path
        assert np.array_equal(kernel[kernel != 0], before[path][kernel != 0]), path


def test_pattern_along_the_input(batch):
    model = exported()
    pruning = export.prune(model, sparsity="2:4")
    fit(model, batch, pruning, epochs=1)
    for path, kernel in arrays(pruning.strip()).items():
        groups = kernel.reshape(-1, 4, kernel.shape[1])
        assert np.all((groups == 0).sum(1) == 2), path


@pytest.mark.slow
def test_masks_hold_while_it_trains(batch):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(pruning.sparsity())

    model = exported()
    pruning = export.prune(model, sparsity=0.75, exclude=("head", "query"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.AdamW(use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, loss, jit_compile=False)
    model.fit(*batch, 8, epochs=4, verbose=0, callbacks=[pruning, Look()])
    assert seen == sorted(seen) and 0 < seen[0] < seen[-1]
    assert seen[-1] == pytest.approx(0.75, abs=1e-4)
    # The optimizer has put its moving averages in the weights' place.
    assert pruning.strip() is model
    assert pruning.sparsity() == pytest.approx(0.75, abs=1e-4)
    assert not np.any(model.get_layer("encoderblock_0").attention.query.kernel == 0)


@pytest.mark.usefixtures("eager")
def test_own_schedule_and_a_run_that_is_too_short(batch):
    from tensorflow_model_optimization.python.core.sparsity.keras import (
        pruning_schedule,
    )

    schedule = pruning_schedule.PolynomialDecay(0.0, 0.5, 0, 6, frequency=1)
    model = exported()
    pruning = export.prune(model, schedule=schedule)
    with pytest.raises(
        ValueError, match="until the sparsity is 0.5; it ended at 0.000"
    ):
        pruning.strip()
    fit(model, batch, pruning, epochs=1)
    with pytest.raises(ValueError, match="ended at 0.4.*after 3 steps"):
        pruning.strip()
    fit(model, batch, pruning, epochs=1)  # the steps go on
    assert pruning.strip() is model


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "Exactly one of `sparsity` and `schedule`"),
        ({"sparsity": 0.5, "schedule": object()}, "Exactly one of"),
        ({"sparsity": 1.0}, "must be a share in"),
        ({"sparsity": 1}, "sparsity=1"),
        ({"sparsity": "4:2"}, "sparsity='4:2'"),
        ({"sparsity": 0.5, "exclude": ["haed"]}, "dense1.*Received: haed"),
    ],
)
def test_prune_refuses(options, words, model):
    with pytest.raises(ValueError, match=words):
        export.prune(model, **options)


def test_few_values_and_training_moves_them(clustered):
    fresh = exported()
    export.cluster(fresh, 16)
    for (path, kernel), start in zip(
        arrays(clustered).items(), arrays(fresh).values(), strict=True
    ):
        assert len(np.unique(kernel)) <= 16, path
        assert np.abs(kernel - start).max() > 1e-4, path
    names = [np.unique(k).size for k in arrays(exported()).values()]
    assert min(names) > 1000  # as the model was


def test_clusters_are_those_of_kmeans():
    from sklearn.cluster import KMeans

    before = arrays(exported())
    model = exported()
    export.cluster(model, 8)
    for path, kernel in list(arrays(model).items())[:3]:
        found = KMeans(8, n_init=3, random_state=0).fit(before[path].reshape(-1, 1))
        error = np.square(kernel - before[path]).sum()
        assert error < 1.1 * found.inertia_, path  # both are local minima


def test_a_step_of_clustering(batch):
    """One step of SGD by hand: a value moves by its members' mean gradient, and each
    weight behind by its own, then all take the nearest value."""
    before, model = arrays(exported()), exported()
    clustering = export.cluster(model, 4)
    start, gradients = arrays(model), []
    path = "encoderblock_0/mlp/dense1/kernel"

    class Keep(keras.optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            gradients.extend(np.asarray(gradient) for gradient in grads)
            super().apply(grads, trainable_variables)

    images, labels = batch
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(Keep(0.5), loss, jit_compile=False, run_eagerly=True)
    model.fit(images[:8], labels[:8], 8, verbose=0, callbacks=[clustering])
    paths = [weight.path for weight in model.trainable_variables]
    step = -0.5 * gradients[paths.index(path)]
    values, nearest = np.unique(start[path], return_inverse=True)
    nearest = nearest.reshape(step.shape)
    moved = [v + step[nearest == i].mean() for i, v in enumerate(values)]
    weights = before[path] + step
    distance = np.abs(weights[..., None] - np.array(moved))
    expected = np.array(moved)[distance.argmin(-1)]
    # float32 sums of 512 gradients; a weight halfway between two values may go either
    # way, so one in a thousand may differ.
    got = arrays(model)[path]
    assert np.mean(np.abs(got - expected) > 1e-5) < 1e-3
    assert np.mean(np.abs(got - start[path]) > 1e-4) > 0.5  # and it did move


def test_zeros_of_a_pruned_model_stay(sparse, batch):
    before = arrays(sparse)
    model = keras.models.clone_model(sparse)
    model.set_weights(sparse.get_weights())
    clustering = export.cluster(model, 8, keep_zeros=True)
    fit(model, batch, clustering, epochs=1)
    for path, kernel in arrays(clustering.strip()).items():
        assert np.all(kernel[before[path] == 0] == 0), path
        assert len(np.unique(kernel)) <= 8, path
        assert np.mean(kernel == 0) < 0.8, path


@pytest.mark.parametrize("clusters", [1, 2.0, 10_000])
def test_cluster_refuses(clusters, model):
    with pytest.raises(ValueError, match=f"`clusters` must.*clusters={clusters}"):
        export.cluster(model, clusters)


def constants(path):
    """Every constant matrix of a .tflite file."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # The default interpreter has packed them into its delegate.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=plain)
    found = []
    for detail in interpreter.get_tensor_details():
        if len(detail["shape"]) == 2 and min(detail["shape"]) > 10:
            try:
                found.append(interpreter.get_tensor(detail["index"]))
            except ValueError:  # not a constant
                continue
    return found


@pytest.mark.parametrize("scheme", slow_but(("int8",), SCHEMES))
def test_zeros_reach_the_file_and_it_opens(scheme, sparse, pixels, tmp_path):
    path = tmp_path / "m.tflite"
    report = export.to_tflite(sparse, path, scheme=scheme, calibration=pixels[:24])
    assert report.parity.passed  # by the default interpreter
    assert any("50% of the weights are zero" in note for note in report.notes)
    assert "fold_norms" in report.rewrites and "rotate_heads" not in report.rewrites
    shares = [np.mean(matrix == 0) for matrix in constants(path)]
    assert sum(share >= 0.5 for share in shares) == 6, shares


@pytest.mark.parametrize("scheme", slow_but(("dynamic_int8",), SCHEMES))
def test_few_values_reach_the_file_and_it_opens(scheme, clustered, pixels, tmp_path):
    path = tmp_path / "m.tflite"
    report = export.to_tflite(clustered, path, scheme=scheme, calibration=pixels[:24])
    assert report.parity.passed
    assert any("different values" in note for note in report.notes)
    # Rows are the outputs, each with a scale of its own in int8.
    few = [
        max(len(np.unique(row)) for row in matrix) <= 16 for matrix in constants(path)
    ]
    assert sum(few) == 6


def test_a_dense_model_is_rewritten_in_full(tflite_of):
    _, report = tflite_of()
    assert {"rotate_heads", "centre_writers"} <= set(report.rewrites)
    assert not any("left out to keep" in note for note in report.notes)


def test_another_backend_and_a_missing_package(model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(export.MissingDependency, match=r"vit-keras-edge\[qat\]"):
        export.prune(model, sparsity=0.5)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for call in (export.prune, export.cluster, export.to_tf_keras):
        with pytest.raises(
            ValueError, match="save the model.*KERAS_BACKEND=tensorflow"
        ):
            call(model)


def test_inside_of_tfmot_is_what_we_were_written_for():
    """Fails with a new version that changes what we use; the message says what."""
    assert tfmot_internals.changes() == []
    pins = tomllib.loads(PYPROJECT.read_text())
    extra = pins["project"]["optional-dependencies"]["qat"]
    for group in (extra, pins["dependency-groups"]["dev"]):
        assert f"tensorflow-model-optimization=={tfmot_internals.VERSION}" in group


def test_changes_of_tfmot_are_told(monkeypatch):
    used = {"Gone": ("pruning_impl", "")}
    used["Pruning"] = ("pruning_impl", "training_step_fn other")
    monkeypatch.setattr(tfmot_internals, "USED", used)
    first, gone, other = tfmot_internals.changes()
    assert first.startswith("tensorflow-model-optimization 0.8.1, not")
    assert gone.startswith("Gone is gone") and "not (training_step_fn other)" in other
    with pytest.raises(export.MissingDependency, match="has no Gone"):
        tfmot_internals.core("Gone")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder, and a folder of images in class folders."""
    from PIL import Image

    folder, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    exported().save(folder / "model.keras")
    (folder / "labels.txt").write_text("\n".join("abcdefghij") + "\n")
    for label in "abcdefghij":
        (folder / "data" / label).mkdir(parents=True)
        for i in range(4):
            image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), "uint8"))
            image.save(folder / "data" / label / f"{i}.png")
    return folder


@pytest.mark.usefixtures("eager")
def test_commands(run, tmp_path, capsys):
    given = {"model": run / "model.keras", "data": str(run / "data"), "batch_size": 8}
    training_commands.prune_command(
        **given, out=tmp_path / "sparse", sparsity="0.5", epochs=2, distil=True
    )
    assert "accuracy on 10 held-out images" in capsys.readouterr().out
    sparse = keras.models.load_model(tmp_path / "sparse" / "model.keras")
    assert isinstance(sparse, vit_keras.VisionTransformer)
    assert all(np.mean(k == 0) == 0.5 for k in arrays(sparse).values())
    assert (tmp_path / "sparse" / "labels.txt").read_text().split() == list(
        "abcdefghij"
    )
    given["distil"] = False
    given["model"] = tmp_path / "sparse" / "model.keras"
    training_commands.cluster_command(
        **given, out=tmp_path / "few", clusters=4, keep_zeros=True, epochs=1
    )
    few = keras.models.load_model(tmp_path / "few" / "model.keras")
    assert all(len(np.unique(k)) <= 4 for k in arrays(few).values())
    assert all(np.mean(k == 0) >= 0.5 for k in arrays(few).values())


def test_commands_refuse(run, tmp_path):
    given = {"model": run / "model.keras", "data": str(run / "data"), "out": tmp_path}
    with pytest.raises(ValueError, match="Either `--sparsity`"):
        training_commands.prune_command(**given)
    with pytest.raises(ValueError, match="Either `--sparsity`"):
        training_commands.prune_command(**given, sparsity="0.5", heads=1)
    with pytest.raises(ValueError, match="Received: much"):
        training_commands.prune_command(**given, sparsity="much")
    with pytest.raises(FileExistsError, match="holds a model already"):
        training_commands.cluster_command(**{**given, "out": run})
    assert json.dumps([p.name for p in tmp_path.iterdir()]) == "[]"
