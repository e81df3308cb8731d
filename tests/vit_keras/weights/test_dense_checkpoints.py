"""Checkpoints with a decoder: what the real packages compute, and what is refused."""

import json
import shutil

import keras
import numpy as np
import pytest

import vit_keras
from tests.models import randomise, run, slow_but
from tests.vit_keras.weights.compared import fill, images, run_torch
from tests.vit_keras.weights.golden_files import GOLDEN, equal, golden, saved, values
from vit_keras import CheckpointError, create_model, from_checkpoint, load_weights
from vit_keras.weights.formats import open_checkpoint
from vit_keras.weights.layout import LAYOUTS

# Bare files of timm: what they leave open has tests of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.*nothing in the file tells")

CASES = {case["case"]: case for case in json.loads((GOLDEN / "dense.json").read_text())}
# float32 through an encoder and a dozen layers of a decoder, in sums of another order;
# of the range of the outputs, which no softmax or norm holds near 1.
TOLERANCE = 2e-5
SIZES = {
    "image_size": (32, 32),
    "patch_size": 16,
    "num_layers": 4,
    "hidden_size": 8,
    "num_heads": 2,
    "mlp_dim": 12,
}


def file_of(name):
    return GOLDEN / name / CASES[name]["file"]


def opened(name, **options):
    case = CASES[name]
    if "decoder_weights" in case:
        options["decoder_weights"] = GOLDEN / name / case["decoder_weights"]
    return from_checkpoint(file_of(name), **{**case["needs"], **options})


def arrays_of(name):
    return {n: e.read() for n, e in open_checkpoint(file_of(name)).entries.items()}


def changed(name, folder, settings=None, **arrays):
    """A copy of a golden folder with other settings or arrays."""
    saved(folder, {**arrays_of(name), **arrays})
    data = json.loads((GOLDEN / name / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**data, **(settings or {})}))
    return folder


def close(ours, theirs):
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape and np.ptp(theirs) > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.ptp(theirs))


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_the_package(name):
    case, (x, expected) = CASES[name], golden(name)
    model = opened(name)
    for field, value in case["config"].items():
        value = tuple(value) if isinstance(value, list) else value
        assert getattr(model.config, field) == value, field
    if "compared" in case:
        assert model.output_shape[1:3] == model.config.image_size
        model = keras.Model(model.inputs[0], model.get_layer(case["compared"]).output)
    close(run(model, x), expected)


def test_a_decoder_in_a_file_of_its_own():
    """The batch norm is in the linear layer: the decoder has nothing else."""
    model = opened("dinov2-head")
    paths = {w.path for w in model.weights if w.path.startswith("decoder")}
    assert paths == {"decoder_head/kernel", "decoder_head/bias"}
    case = GOLDEN / "dinov2-head"
    with pytest.raises(CheckpointError, match="must have the decoder alone"):
        from_checkpoint(
            *(case / "backbone.safetensors",),
            decoder_weights=case / "backbone.safetensors",
        )
    alone = from_checkpoint(case / "backbone.safetensors", num_heads=2)
    assert alone.config.head == "softmax"


NECK = {"neck_hidden_sizes": [6, 8, 10, 12], "fusion_hidden_size": 16}
HF = {
    "hidden_size": 24,
    "num_hidden_layers": 5,
    "num_attention_heads": 3,
    "attn_implementation": "eager",
}


def hf_models(hf, name):
    """A random model of transformers, and where in its outputs ours are."""
    if name.startswith("dpt"):
        _, task, readout = name.split("-")
        options = {**HF, **NECK, "backbone_out_indices": [0, 1, 3, 4]}
        config = hf.DPTConfig(
            **options,
            image_size=64,
            intermediate_size=40,
            num_labels=5,
            readout_type=readout,
        )
        if task == "depth":
            return hf.DPTForDepthEstimation(config), "predicted_depth"
        return hf.DPTForSemanticSegmentation(config), "logits"
    backbone = hf.Dinov2Config(
        **HF, image_size=28, mlp_ratio=2, patch_size=14, out_indices=[2, 3, 4, 5]
    )
    backbone.reshape_hidden_states = False
    options = {"depth_estimation_type": "metric", "max_depth": 80}
    config = hf.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=24,
        **NECK,
        **(options if name == "metric" else {}),
    )
    return hf.DepthAnythingForDepthEstimation(config), "predicted_depth"


SQUARE = ("relative", (28, 28))  # the golden file of Depth Anything is one, too
HF_CASES = [
    ("dpt-segment-project", (64, 64)),
    ("dpt-segment-ignore", (96, 96)),  # their maps are squares
    ("dpt-depth-project", (96, 96)),
    SQUARE,
    ("relative", (42, 70)),
    ("metric", (56, 42)),
]


@pytest.mark.parametrize("name, size", slow_but(set(HF_CASES) - {SQUARE}, HF_CASES))
def test_parity_with_transformers(name, size, hf, tmp_path):
    module, output = hf_models(hf, name)
    module = fill(module)
    for part, tensor in module.named_buffers():
        if part.endswith("running_var"):
            tensor.abs_().add_(0.5)
    module.save_pretrained(tmp_path)
    x = images(*size)
    theirs = getattr(run_torch(module, x), output).numpy()
    theirs = np.moveaxis(theirs if theirs.ndim == 4 else theirs[:, None], 1, 3)
    close(run(from_checkpoint(tmp_path, image_size=size), x), theirs)


def test_eomt_names_the_class_that_transformers_does(hf, tmp_path):
    import torch

    config = hf.EomtConfig(
        **HF, image_size=64, mlp_ratio=2, num_queries=9, num_blocks=3, num_labels=5
    )
    module = fill(hf.EomtForUniversalSegmentation(config))
    module.attn_mask_probs.zero_()
    module.save_pretrained(tmp_path)
    x = images(64, 64)
    found = run_torch(module, x)
    classes = found.class_queries_logits.softmax(dim=-1)[..., :-1]
    masks = found.masks_queries_logits.sigmoid()
    scores = torch.einsum("bqc, bqhw -> bhwc", classes, masks).numpy()
    model = from_checkpoint(tmp_path)
    small = keras.Model(model.inputs[0], model.get_layer("decoder_logits").output)
    logits = run(small, x)
    close(np.exp(logits) - 1e-6, scores)
    first, second = np.sort(scores, axis=-1)[..., :-3:-1].transpose(3, 0, 1, 2)
    clear = first - second > 1e-4  # beyond rounding
    assert clear.mean() > 0.9
    assert (logits.argmax(-1) == scores.argmax(-1))[clear].all()


DEPTHS = (
    ("hf-dpt-depth", "inverse"),
    ("hf-depth-anything", "inverse"),
    ("hf-depth-anything-metric", "metric"),
)


@pytest.mark.parametrize(("name", "depth_type"), slow_but(DEPTHS[1:], DEPTHS))
def test_what_depths_are(name, depth_type, tmp_path):
    """Known by the file, kept in ours, and lost with the decoder."""
    model = opened(name)
    assert model.config.depth_type == depth_type
    model.save(tmp_path / "model.keras")
    assert from_checkpoint(tmp_path / "model.keras").config == model.config
    assert opened(name, depth_type="metric").config.depth_type == "metric"
    with pytest.warns(UserWarning, match="left fresh"):
        assert opened(name, decoder="linear").config.depth_type == "metric"
    with pytest.warns(UserWarning, match="left fresh"):
        masks = opened(name, task="segment", classes=3)
    assert masks.config.depth_type == "metric" and masks.config.max_depth is None


@pytest.mark.parametrize("name", ["hf-depth-anything", "hf-depth-anything-metric"])
def test_a_preset_takes_what_the_decoder_gives(name):
    own = opened(name)
    names = (*SIZES, "decoder", "decoder_width", "decoder_channels", "taps")
    sizes = {field: getattr(own.config, field) for field in names}
    model = create_model("vit_ti16", task="depth", weights=file_of(name), **sizes)
    for field in ("activation", "max_depth", "depth_type"):
        assert getattr(model.config, field) == getattr(own.config, field), field
    x = golden(name)[0]
    np.testing.assert_array_equal(run(model, x), run(own, x))


REFUSED = [
    ("hf-dpt-depth", {"is_hybrid": True}, "no plain ViT"),
    ("hf-dpt-depth", {"backbone_config": {"model_type": "dinov2"}}, "maps of another"),
    ("hf-dpt-depth", {"readout_type": "add"}, "`readout_type` must be"),
    ("hf-dpt-depth", {"patch_size": 8}, "`patch_size` must be 16"),
    ("hf-dpt-depth", {"hidden_act": "relu"}, "`hidden_act` must be 'gelu'"),
    ("hf-dpt-depth", {"backbone_out_indices": [0, 1, 3]}, "`taps` must be 4"),
    ("hf-dpt-segment", {"use_batch_norm_in_fusion_residual": True}, "must be False"),
    ("hf-depth-anything", {"reassemble_factors": [2, 1, 1, 1]}, "`reassemble_factors`"),
    ("hf-depth-anything", {"backbone_config": {"model_type": "beit"}}, "'beit': BEiT"),
    ("hf-eomt", {"model_type": "eomt_dinov3"}, "rotary positions"),
    ("hf-eomt", {"use_swiglu_ffn": True}, "`use_swiglu_ffn` must be False"),
    ("hf-eomt", {"num_blocks": 9}, "`decoder_depth` must be at most"),
]


@pytest.mark.parametrize("name, settings, words", REFUSED)
def test_other_networks_are_refused_by_name(name, settings, words, tmp_path):
    with pytest.raises(CheckpointError, match=words):
        from_checkpoint(changed(name, tmp_path, settings))


def test_masked_attention_and_unknown_parts_are_refused(tmp_path):
    probability = np.ones(2, "float32")
    folder = changed("hf-eomt", tmp_path / "a", attn_mask_probs=probability)
    with pytest.raises(CheckpointError, match="attn_mask_probs must be 0"):
        from_checkpoint(folder)
    more = {"head.projection.weight": np.zeros((8, 8, 3, 3), "float32")}
    folder = changed("hf-dpt-depth", tmp_path / "b", **more)
    with pytest.raises(CheckpointError, match=r"not in the model: head\.projection"):
        from_checkpoint(folder)
    with pytest.raises(CheckpointError, match=r"not in the model: head\.projection"):
        from_checkpoint(folder, task="classify", classes=3)


def test_no_decoder_becomes_a_classifier_unsaid():
    """Of another library's names for the decoder of a known encoder, too."""
    with pytest.raises(ValueError, match="`classes` must be given for task='classify'"):
        opened("hf-depth-anything", task="classify")
    with pytest.warns(UserWarning, match="left fresh: head/kernel, head/bias"):
        model = opened("hf-depth-anything", task="classify", classes=3)
    assert model.config.head == "softmax" and model.output_shape == (None, 3)
    tokens = opened("hf-depth-anything", task="features")
    assert tokens.output_shape == (None, 17, 32)  # of four taps
    with pytest.raises(ValueError, match="`classes` must be given for task='segment'"):
        opened("hf-depth-anything", task="segment")


def test_heads_of_depth_of_dinov2_are_refused(tmp_path):
    case = GOLDEN / "dinov2-head"
    head = {"decode_head.conv_depth.weight": np.zeros((256, 16, 1, 1), "float32")}
    path = saved(tmp_path, head, "head.safetensors")
    with pytest.raises(CheckpointError, match=r"decode_head\.conv_depth\.weight"):
        from_checkpoint(
            case / "backbone.safetensors", decoder_weights=path, num_heads=2
        )


def test_differences_that_no_shape_shows_are_said():
    config = opened("hf-depth-anything").config.replace(taps=4)
    config = config.replace(activation="linear", max_depth=2.0)
    config = config.replace(depth_type="metric")
    model = create_model(config, task="depth")
    with pytest.warns(UserWarning) as caught:
        load_weights(model, file_of("hf-depth-anything"))
    said = " ".join(str(warning.message) for warning in caught)
    assert "implies activation='relu', the model has 'linear'" in said
    assert "implies max_depth=None, the model has 2.0" in said
    assert "implies depth_type='inverse', the model has 'metric'" in said
    assert "tap_blocks" not in said


def test_another_number_of_classes_has_a_new_decoder():
    with pytest.warns(UserWarning, match="left fresh: .* and 5[0-9] more"):
        model = opened("hf-dpt-segment", classes=7)
    assert model.output_shape == (None, 32, 32, 7)
    assert model.config.labels is None


def test_an_encoder_without_decoder_gets_a_new_one(tmp_path):
    classifier = randomise(create_model("vit_ti16", **SIZES, classes=5))
    path = tmp_path / "model.keras"
    classifier.save(path)
    with pytest.warns(UserWarning, match="left fresh: decoder_head/kernel"):
        model = from_checkpoint(path, task="segment", classes=3)
    with pytest.warns(UserWarning, match="left fresh: decoder_head/kernel"):
        report = load_weights(create_model(model.config, task="segment"), path)
    assert report.fresh == ["decoder_head/kernel", "decoder_head/bias"]
    assert set(report.dropped) == {"head/kernel", "head/bias"}
    assert "left fresh: decoder_head/kernel" in str(report)


OWN = {
    "linear": {"taps": 2},
    "upconv": {"decoder_depth": 3},
    "mask": {"decoder_width": 12, "taps": (0, 1)},
    "dpt": {"num_layers": 4, "taps": 4, "readout": "project"},
    "eomt": {"decoder_depth": 2, "decoder_queries": 7},
}


@pytest.mark.parametrize("decoder", slow_but(("upconv", "mask", "eomt"), OWN))
def test_own_files_keep_the_decoder(decoder, tmp_path):
    options = {
        **SIZES,
        "num_layers": 2,
        **OWN[decoder],
        "classes": 3,
        "labels": ("a", "b", "c"),
    }
    model = create_model("vit_ti16", task="segment", decoder=decoder, **options)
    randomise(model)
    model.save(tmp_path / "model.keras")
    again = from_checkpoint(tmp_path / "model.keras")
    assert again.task == "segment" and again.config == model.config
    equal(values(again), values(model))
    model.save_weights(tmp_path / "model.weights.h5")
    other = create_model(model.config, task="segment")
    load_weights(other, tmp_path / "model.weights.h5")
    equal(values(other), values(model))
    with pytest.warns(UserWarning, match="left fresh: head/kernel, head/bias"):
        classifier = from_checkpoint(
            tmp_path / "model.keras", task="classify", classes=4
        )
    assert classifier.output_shape == (None, 4)


def test_no_layout_of_others_is_written_with_a_decoder(tmp_path):
    model = create_model("vit_ti16", task="segment", **SIZES, classes=3)
    with pytest.raises(CheckpointError, match="layout timm has no decoders"):
        vit_keras.save_checkpoint(model, tmp_path / "model.safetensors", "timm")
    assert not list(tmp_path.iterdir())


def test_names_of_classes_are_not_those_of_a_depth(tmp_path):
    names = {"0": "near", "1": "far"}
    folder = changed("hf-dpt-depth", tmp_path, {"id2label": names})
    assert from_checkpoint(folder).config.labels is None


def test_taps_are_told_by_names_of_stages_too(tmp_path):
    shutil.copytree(GOLDEN / "hf-depth-anything", tmp_path / "copy")
    path = tmp_path / "copy" / "config.json"
    data = json.loads(path.read_text())
    del data["backbone_config"]["out_indices"]
    path.write_text(json.dumps(data))
    assert from_checkpoint(tmp_path / "copy").config.taps == (0, 1, 2, 3)


def test_every_golden_layout_has_a_decoder():
    decoders = {case["layout"] for case in CASES.values()}
    rows = {
        name
        for name, layout in LAYOUTS.items()
        if any(path.startswith("decoder_") for row in layout.rows for path in row.ours)
    }
    assert decoders == rows
