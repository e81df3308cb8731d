# pyright: strict
"""The public functions as the README calls them, for pyright alone; never run.

What they return is declared, so that an `Any` or a partly unknown type is an error.
"""

import pathlib
from typing import Any, assert_type

import numpy as np

import export
import vit_keras
from export.compilers import CompileReport
from export.compression.clustering import Clustering
from export.compression.compress import CompressionResult
from export.compression.pruning import Pruning
from export.evaluation.benchmark import Timing
from export.evaluation.check import CheckReport
from export.evaluation.comparison import Comparison
from export.evaluation.half_precision import HalfPrecision
from export.evaluation.parity import Parity
from export.evaluation.profile import Profile
from export.evaluation.runners import SavedModelRunner, TFLiteRunner
from export.evaluation.tensor_errors import TensorError
from export.quantization.aware.aware_model import QuantizedModel
from export.report import ExportReport
from export.schemes import Scheme
from export.targets import Target
from export.tflite.c_array import CArray
from vit_keras import VisionTransformer, ViTConfig, layers, preprocessing, vit
from vit_keras.text_tower import TextEmbeddings
from vit_keras.weights import LoadReport

FOLDER = pathlib.Path("folder")


def models(pixels: np.ndarray) -> None:
    model = vit_keras.create_model("vit_ti16", image_size=64, classes=3)
    assert_type(model, VisionTransformer)
    assert_type(model.config, ViTConfig)
    assert_type(model.task, str)
    images = preprocessing.normalize(pixels, model.config.preprocessing)
    assert_type(images, np.ndarray)
    assert_type(vit_keras.PRESETS["vit_ti16"].config, ViTConfig)

    scores = vit_keras.attention_scores(model, images)
    assert_type(scores, np.ndarray)
    tokens, grid = model.config.num_prefix_tokens, model.config.grid
    assert_type(vit_keras.attention_rollout(scores, tokens, grid), np.ndarray)

    maps = vit_keras.attention_map(model, images, "relevance", class_index=2)
    assert_type(maps, np.ndarray)
    assert_type(vit_keras.visualize.attention_map(model, pixels[0]), np.ndarray)
    assert_type(vit_keras.utils.read("photo.jpg", 64), np.ndarray)
    assert_type(vit_keras.utils.get_imagenet_classes(), list[str])

    names = ["cat", "dog"]
    texts = vit_keras.text_embeddings(FOLDER, names, templates=["a photo of a {}"])
    assert_type(texts, TextEmbeddings)
    scale, bias = texts.logit_scale, texts.logit_bias
    classifier = vit_keras.zero_shot(model, texts.embeddings, names, scale, bias)
    assert_type(classifier, VisionTransformer)

    run = vit_keras.train(FOLDER, "deit", out=FOLDER, weights="augreg_ti16_in21k")
    assert_type(run, VisionTransformer)
    recipe = vit_keras.RECIPES["digits"].replace(epochs=3)
    assert_type(recipe, vit_keras.Recipe)
    assert_type(vit_keras.evaluate(run, "digits"), dict[str, float])


def weights(model: VisionTransformer) -> None:
    path = vit_keras.save_checkpoint(model, FOLDER, layout="timm")
    assert_type(path, pathlib.Path)
    assert_type(vit_keras.from_checkpoint(path, classes=3), VisionTransformer)
    assert_type(vit_keras.load_weights(model, "B_16.npz", head=False), LoadReport)
    assert_type([row for row in vit_keras.PUBLISHED], list[str])


def images() -> None:
    chosen = preprocessing.get_preprocessing("imagenet")
    assert_type(chosen, vit_keras.Preprocessing)
    scale, offset = chosen.scale_and_offset()
    assert_type(preprocessing.formula(scale, offset), str)
    assert_type(preprocessing.find_images("folder"), list[pathlib.Path])
    pixels = preprocessing.read_image(b"", channels=1)
    assert_type(preprocessing.fit(pixels, (64, 64), chosen), np.ndarray)
    assert_type(preprocessing.load_image(FOLDER, (64, 64), chosen), np.ndarray)


def drop_in(pixels: np.ndarray) -> None:
    model = vit.vit_b16(image_size=384, activation="sigmoid", pretrained=True)
    assert_type(model, VisionTransformer)
    assert_type(vit.preprocess_inputs(pixels), np.ndarray)
    assert_type(vit.build_model(32, 8, 2, 16, 2, "vit", 32, 10), VisionTransformer)


def layer_by_layer() -> layers.EncoderBlock:
    layers.Patches((16, 16), 192, name="embedding")
    layers.AddPositionEmbs((14, 14), 1, "sincos2d")
    layers.MultiHeadAttention(3, qk_norm=True)
    return layers.EncoderBlock(3, 768, drop_path=0.1, layer_scale_init_value=1e-5)


def exports(model: VisionTransformer, pixels: np.ndarray) -> None:
    report = export.to_tflite(model, "m.tflite", scheme="int8", calibration=pixels)
    assert_type(report, ExportReport)
    assert_type(report.parity, Parity)
    assert_type(report.notes, tuple[str, ...])
    labels = ["cat", "dog", "horse"]
    saved = export.to_saved_model(model, "vit/1", labels=labels, warmup=(1, 8))
    assert_type(saved, ExportReport)
    plain = export.to_vit(model, preprocessing="imagenet")
    assert_type(export.to_tflite(plain, "m.tflite"), ExportReport)
    assert_type(export.SCHEMES["int8"], Scheme)
    assert_type(export.TARGETS["npu"], Target)


def evaluation(model: VisionTransformer, pixels: np.ndarray) -> None:
    parity = export.verify(model, "m.tflite", pixels)
    assert_type(parity, Parity)
    assert_type(parity.sqnr_db, float)
    errors = export.verify_layers(model, "m.tflite", pixels)
    assert_type(errors, list[TensorError])
    runner = export.load("m.tflite", num_threads=2)
    assert_type(runner, TFLiteRunner | SavedModelRunner)
    assert_type(runner.all(pixels), dict[str, np.ndarray])
    assert_type(export.verify_outputs(model, "m.tflite", pixels), dict[str, Parity])
    assert_type(runner(pixels), np.ndarray)
    assert_type(runner.input_dtype, str)
    assert_type(export.benchmark(["m.tflite", FOLDER]), list[Timing])
    assert_type(export.check("m.tflite", target="npu"), CheckReport)
    assert_type(export.half_precision("m.tflite", pixels), HalfPrecision)
    device = {"accelerator": "ethos-u55-128", "vela_ini": FOLDER / "my.ini"}
    found = export.profile("m.tflite", "ethos_u55", options=device)
    assert_type(found, Profile)
    assert_type(found.blocks[0].cycles_share, float)
    assert_type(
        export.check("m.tflite", "qualcomm", options={"socs": ["SM8750"]}), CheckReport
    )
    assert_type(export.emulate("m.tflite", pixels), dict[str, Parity])
    compiled = export.compile_tflite("m.tflite", "npu.tflite", "qualcomm")
    assert_type(compiled, CompileReport)
    assert_type(export.c_array("m.tflite", FOLDER / "m.h"), CArray)
    assert_type(export.compare("vit/1", "vit/2", pixels), Comparison)
    assert_type(export.read_metadata("m.tflite"), dict[str, Any])
    assert_type(
        export.web_page(["m.tflite", FOLDER], "page", vendor="npm"), pathlib.Path
    )


def smaller(model: VisionTransformer, pixels: np.ndarray) -> None:
    assert_type(export.shrink(model, pixels, macs_ratio=1.5), VisionTransformer)
    pruning = export.prune(model, sparsity="2:4")
    assert_type(pruning, Pruning)
    assert_type(pruning.sparsity(), float)
    clustering = export.cluster(model, clusters=16)
    assert_type(clustering, Clustering)
    assert_type(clustering.values(), dict[str, int])
    result = export.compress("m.keras", "digits", method="prune", out=FOLDER)
    assert_type(result, CompressionResult)
    twin = export.to_tf_keras(model)
    assert_type(export.from_tf_keras(twin, model), VisionTransformer)


def quantized(model: VisionTransformer, pixels: np.ndarray) -> None:
    aware = export.quantize_aware(model, pixels, weight_bits=4)
    assert_type(aware, QuantizedModel)
    assert_type(aware.config, ViTConfig)
    assert_type(aware.ranges(), np.ndarray)
    assert_type(aware.to_float(), VisionTransformer)
    assert_type(export.open_quantized("aware.keras"), QuantizedModel)


def errors(model: VisionTransformer) -> str:
    try:
        return str(export.to_tflite(model, "m.tflite"))
    except export.ParityError as error:
        return f"{error.parity}"
    except (export.UnsupportedOperators, export.MissingDependency) as error:
        return str(error)
