"""`vit-keras weights` as a user types it: list, inspect, convert."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.models import run
from vit_keras import PUBLISHED, ViTConfig, create_model, from_checkpoint
from vit_keras.cli import main
from vit_keras.weights.axes import shapes_of
from vit_keras.weights.describe import describe
from vit_keras.weights.loader import find
from vit_keras.weights.recognise import recognise

# Bare files of timm: what they leave open has tests of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*nothing in the file tells")

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
CASES = {case["case"]: case for case in json.loads((GOLDEN / "cases.json").read_text())}

# float32 over two blocks and a head, as tests/vit_keras/weights/test_golden.py has it
TOLERANCE = 2e-5


def file_of(name):
    return GOLDEN / name / CASES[name]["file"]


def needs_of(name):
    """The options of the command line that a case needs, and the others."""
    needs = dict(CASES[name]["needs"])
    options = []
    for field in ("num_heads", "image_size", "patch_size"):
        value = needs.get(field)
        if value is not None and (not isinstance(value, list) or len(set(value)) == 1):
            value = value[0] if isinstance(value, list) else value
            options += [f"--{field.replace('_', '-')}", str(value)]
            needs.pop(field)
    return options, needs


@pytest.fixture
def cli(monkeypatch, capsys):
    """Runs the program in this process: (exit status, stdout, stderr)."""

    def call(*arguments):
        words = ["vit-keras", "weights", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return call


def failed(result, *words):
    """Exit status 2, and one line of stderr tells why."""
    status, _, err = result
    assert status == 2, result
    assert err.startswith("vit-keras: ") and err.count("\n") == 1, err
    for word in words:
        assert str(word) in err, err


def process(*arguments):
    """The same in a process of its own."""
    code = "from vit_keras.cli import main; main()"
    environment = {**os.environ, "COLUMNS": "160", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", code, "weights", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


# --- list -------------------------------------------------------------------------


def test_list():
    done = process("list")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name, row in PUBLISHED.items():
        line = next(line for line in lines if f" {name} " in line)
        for word in (row.preset, row.image_size, f"{row.classes:,}", row.licence):
            assert f" {word} " in line
        assert row.top1 is None or f" {row.top1:.2f} " in line
    assert len(lines) == len(PUBLISHED) + 4  # the frame, and the head of the table


# --- inspect ----------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_inspect(cli, name):
    case, (options, rest) = CASES[name], needs_of(name)
    status, out, err = cli("inspect", file_of(name), *options)
    if name == "timm-dinov3":  # a bare file, without positions
        assert status == 2 and "'rotary': 'dinov3'" in err
        return
    assert status == 0, err
    lines = out.splitlines()
    arrays = find(file_of(name)).entries
    assert lines[0].startswith(f"{file_of(name)}: {len(arrays)} arrays, ")
    kind = "bfloat16" if name.endswith("bf16") else "float32"
    assert kind in lines[0] and lines[0].endswith(" bytes")
    assert lines[1].startswith(f"layout: {case['layout']} (")
    assert lines[2] == "size: none of the presets"
    fields = dict(line[2:].split(": ", 1) for line in lines[3:])
    bare = case["layout"] == "timm" and name != "timm-folder"
    bare |= name == "open-clip-bare"
    assert ("mlp_activation=" in fields.pop("assumed", "")) == bare
    expected = dict(case["config"])
    scaled = expected.pop("layer_scale", False)
    if rest:  # what the command line cannot say: see the test below
        for field in ("image_size", "position_prefix", *rest):
            expected.pop(field, None)
            fields.pop(field, None)
    defaults = ViTConfig().to_dict()
    for field, value in expected.items():
        value = tuple(value) if isinstance(value, list) else value
        if field in fields or value != defaults[field]:
            assert fields[field] == str(value), field
    assert ("layer_scale_init_value" in fields) == scaled
    assert "missing" not in fields and "not usable" not in fields
    wrong = set(fields) - set(expected) - {"layer_scale_init_value", "preprocessing"}
    assert wrong <= {"qkv_bias", "class_token", "position_prefix", "norm_epsilon"}


def test_inspect_sums_up(cli):
    status, out, _ = cli("inspect", file_of("hf-bf16"))
    config = describe(recognise(find(file_of("hf-bf16"))))
    numbers = sum(int(np.prod(s)) for s in shapes_of(config).values())
    assert status == 0 and f", bfloat16, {2 * numbers:,} bytes" in out


def test_inspect_names_the_preset(cli, tmp_path):
    model = create_model("vit_ti16", image_size=32, num_layers=12, classes=2)
    model.save(path := tmp_path / "model.keras")
    status, out, _ = cli("inspect", path)
    assert status == 0 and "layout: vit_keras (vit_keras (.keras))" in out
    assert "size: vit_ti16\n" in out and "  image_size: (32, 32)\n" in out


def test_inspect_says_what_is_missing_and_what_is_not_usable(cli, tmp_path):
    with np.load(file_of("augreg-token")) as file:
        arrays = dict(file)
    del arrays["Transformer/encoder_norm/scale"]
    arrays["more"] = np.ones(2)
    arrays["Transformer/encoder_norm/bias"] = np.ones((2, 2), "f4")
    np.savez(path := tmp_path / "model.npz", **arrays)
    status, out, _ = cli("inspect", path)
    assert status == 0
    assert "  missing: encoder_norm/gamma\n" in out
    assert "  not usable: more\n" in out
    assert "  not usable: Transformer/encoder_norm/bias has 2 axes, not 1" in out


def test_inspect_takes_what_the_file_does_not_tell(cli):
    path = file_of("timm-token")
    failed(cli("inspect", path), path, "give `num_heads`")
    status, out, _ = cli("inspect", path, "--num-heads", 4, "--patch-size", 2)
    assert status == 0
    assert "  num_heads: 4\n" in out and "  patch_size: (2, 2)\n" in out


# --- convert ----------------------------------------------------------------------


def outputs_of(name):
    with np.load(GOLDEN / name / "expected.npz") as expected:
        shape, outputs = tuple(expected["images_shape"]), expected["outputs"]
    images = np.random.default_rng(0).standard_normal(shape).astype("float32")
    return images, outputs


@pytest.mark.parametrize(
    ("name", "options", "out"),
    [
        ("augreg-token", [], "new/folder/model.keras"),
        ("timm-distilled", [], "model.keras"),
        ("hf-sharded", [], "model.keras"),
        ("timm-gap", ["--layout", "timm"], "model.safetensors"),
        ("timm-registers", ["--layout", "timm"], "new/folder"),
        ("hf-vit", ["--layout", "huggingface"], "folder"),
        ("hf-deit", ["--layout", "huggingface"], "model.safetensors"),
        ("kh-token", ["--layout", "huggingface"], "folder"),
        ("vk-keras2", ["--layout", "timm"], "model.safetensors"),
        ("augreg-gap", ["--layout", "augreg"], "model.npz"),
        ("bv-tok", ["--layout", "augreg"], "model.npz"),
    ],
)
def test_convert(cli, tmp_path, name, options, out):
    out, (needs, _) = tmp_path / out, needs_of(name)
    status, said, err = cli("convert", file_of(name), out, *options, *needs)
    assert status == 0, err
    assert said == f"wrote {out}\n"
    images, expected = outputs_of(name)
    given = {"num_heads": 2}
    if out.suffix:  # alone, without the settings
        config = from_checkpoint(file_of(name), **CASES[name]["needs"]).config
        given["norm_epsilon"] = config.norm_epsilon
    model = from_checkpoint(out, **given)
    np.testing.assert_allclose(run(model, images), expected, rtol=0, atol=TOLERANCE)
    if out.suffix == ".keras":
        again = keras.models.load_model(out)
        np.testing.assert_allclose(run(again, images), expected, rtol=0, atol=TOLERANCE)
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    folder = {"model.safetensors", "config.json"}
    if "huggingface" in options:
        folder.add("preprocessor_config.json")
    assert left == ({out.name} if out.suffix else folder)


def test_convert_resizes(cli, tmp_path):
    out = tmp_path / "model.keras"
    status, _, err = cli("convert", file_of("augreg-token"), out, "--image-size", 24)
    assert status == 0, err
    assert keras.models.load_model(out).input_shape == (None, 24, 24, 3)


# What makes `convert` fail: words of the message, and what becomes of the input.
WRONG = {
    "no file": ("must be an existing file", lambda data: None),
    "truncated": ("truncated, corrupt", lambda data: data[:-300]),
    "other content": ("truncated, corrupt", lambda data: b"<html>"),
}


@pytest.fixture(params=["model.keras", "model.npz", "folder"])
def target(request, tmp_path):
    """An earlier result, its options, and a check that it is as it was."""
    out = tmp_path / "out" / request.param
    out.parent.mkdir()
    file = out if out.suffix else out / "config.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"earlier")
    layout = {".npz": ["--layout", "augreg"], "": ["--layout", "timm"]}

    def check():
        assert file.read_bytes() == b"earlier"
        assert [p for p in out.parent.rglob("*") if p.is_file()] == [file]

    return out, layout.get(out.suffix, []), check


@pytest.mark.parametrize("reason", WRONG)
def test_a_failed_convert_changes_nothing(cli, tmp_path, target, reason):
    out, options, check = target
    words, change = WRONG[reason]
    source = tmp_path / "in.npz"
    data = change(file_of("augreg-token").read_bytes())
    if data is not None:
        source.write_bytes(data)
    failed(cli("convert", source, out, *options), words, source)
    check()


def test_a_failed_write_changes_nothing(cli, target, monkeypatch):
    """As on a full disk, when half of the file is written."""
    out, options, check = target

    def full(file, *arguments, **more):
        if isinstance(file, pathlib.Path):
            file.write_bytes(b"half")
        else:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vit_keras.weights.writer._write", full)
    monkeypatch.setattr(keras.Model, "save", lambda self, path, **_: full(path))
    failed(cli("convert", file_of("augreg-token"), out, *options), "No space left")
    check()


def test_what_a_layout_can_not_express(cli, tmp_path):
    out = tmp_path / "out" / "model.npz"
    path, heads = file_of("timm-token"), ["--num-heads", 2]
    failed(
        cli("convert", path, out, "--layout", "augreg", *heads),
        "the layout augreg cannot express this model: mlp_activation='gelu'",
    )
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("out", "options", "words"),
    [
        ("model.h5", [], "OUT must end in '.keras', or --layout be given"),
        ("folder", [], "OUT must end in '.keras', or --layout be given"),
        ("folder", ["--layout", "flax"], "`layout` must be 'huggingface' or one of"),
        ("a.npz", ["--layout", "timm"], "must end in '.safetensors' or be a folder"),
        ("a.keras", ["--layout", "augreg"], "must end in '.npz' or be a folder"),
        ("a.keras", ["--image-size", 17], "must be a multiple of `patch_size`"),
        ("a.keras", ["--image-size", 0], "`image_size` must be a positive integer"),
        ("a.keras", ["--patch-size", -4], "`patch_size` must be a positive integer"),
        ("a.keras", ["--num-heads", 3], "hidden_size"),
        ("a.keras", ["--num-heads", 4], "num_heads: 2 in the file, 4 in the model"),
    ],
)
def test_bad_usage(cli, tmp_path, out, options, words):
    failed(cli("convert", file_of("augreg-token"), tmp_path / out, *options), words)
    assert not list(tmp_path.rglob("*"))


def test_a_folder_in_the_way(cli, tmp_path):
    (out := tmp_path / "model.keras").mkdir()
    failed(cli("convert", file_of("augreg-token"), out), out)
    assert [p.name for p in tmp_path.rglob("*")] == ["model.keras"]


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_files_that_can_not_be_used(cli, tmp_path, command):
    more = [tmp_path / "out.keras"] if command == "convert" else []
    failed(cli(command, tmp_path / "no.npz", *more), "must be an existing file")
    failed(cli(command, "vit_b16_38", *more), "such as vit_b16_384")
    failed(cli(command, tmp_path, *more), "or a folder that holds one of")
    (path := tmp_path / "a.safetensors").write_bytes(b"")
    failed(cli(command, path, *more), path, "truncated, corrupt")
    np.savez(path := tmp_path / "a.npz", other=np.ones(3))
    failed(cli(command, path, *more), path, "fits no known layout")
    assert not (tmp_path / "out.keras").exists()


def test_own_weights_alone_can_not_be_converted(cli, tmp_path):
    model = from_checkpoint(file_of("augreg-token"))
    model.save_weights(path := tmp_path / "model.weights.h5")
    out = tmp_path / "out.keras"
    failed(cli("convert", path, out), "holds weights only", "a .keras file tells both")
    failed(cli("inspect", path), path, "holds weights only")
    assert not out.exists()


@pytest.mark.slow  # `test_cli.py` starts the program that pip installs
def test_the_program_itself(tmp_path):
    path = tmp_path / "no.npz"
    done = process("inspect", path)
    assert done.returncode == 2 and done.stdout == ""
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]  # TensorFlow may say something before
    assert last.startswith("vit-keras: `weights` must be an existing file")
