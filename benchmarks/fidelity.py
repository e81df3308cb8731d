"""What each scheme keeps of a trained ViT's features, on photographs.

    python benchmarks/fidelity.py CHECKPOINT clothes=FOLDER streets=FOLDER \
        --schemes int8 int8@ethos_u85 --seeds 0 1 2 --out x.csv

Of each set of photographs, drawn once a seed, half calibrate and the other half are
measured. A row is
the signal to noise ratio of the class token and of the patch tokens after the last
norm, against the Keras model in float32, through the LiteRT interpreter. `stock` is the
full int8 file that TensorFlow's own converter makes of the same model as it was
trained, with the same calibration images; `int8@cpu` is int8 for the target cpu, and
`int8+mse` int8 with another calibration method.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np
from machine import machine, versions, write_rows

import export
import vit_keras
from export.evaluation.parity import measure_parity
from export.evaluation.reference import predict
from export.graph.found_vit import as_it_is
from vit_keras import preprocessing as pp

FIELDS = (
    "photos",
    "scheme",
    "cls_sqnr_db",
    "patch_sqnr_db",
    "least_cosine",
    "megabytes",
)
FIELDS += ("export_seconds", "images", "seed", "machine", "versions")
PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "litert-quantizer")


def stock_int8(model, path, images):
    """TensorFlow's post-training quantisation, without any of ours."""
    import tensorflow as tf

    function = as_it_is(model, model.config.preprocessing)
    shape = (1, *model.input_shape[1:])
    traced = tf.function(function, input_signature=[tf.TensorSpec(shape)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [traced.get_concrete_function()], model
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: (
        [image[None].astype("float32")] for image in images
    )
    path.write_bytes(converter.convert())


def drawn(folder, count, seed, config):
    """Pixels of photographs: (calibration, test)."""
    files = pp.find_images(folder)
    order = np.random.default_rng(seed).permutation(len(files))
    pixels = np.stack(
        [
            pp.load_image(files[i], config.image_size, config.preprocessing)
            for i in order[: 2 * count]
        ]
    )
    return pixels[:count], pixels[count:]


def measured(model, scheme, calibration, test, reference):
    """Fields of a row from SQNR to seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path, start = pathlib.Path(folder) / "model.tflite", time.process_time()
        if scheme == "stock":
            stock_int8(model, path, calibration)
        else:
            name, _, target = scheme.partition("@")
            name, _, method = name.partition("+")
            export.to_tflite(
                *(model, path),
                scheme=name,
                target=target or None,
                calibration=calibration,
                calibration_method=method or "min_max",
                enforce_parity=False,
            )
        seconds, size = time.process_time() - start, path.stat().st_size
        outputs = export.load(path)(test)
    prefix = model.config.num_prefix_tokens
    token = measure_parity(reference[:, 0], outputs[:, 0])
    patches = measure_parity(reference[:, prefix:], outputs[:, prefix:])
    return (
        *(f"{token.sqnr_db:.2f}", f"{patches.sqnr_db:.2f}", f"{token.cosine:.4f}"),
        *(f"{size / 1e6:.2f}", f"{seconds:.0f}"),
    )


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", help="what vit_keras.from_checkpoint takes")
    parser.add_argument("photos", nargs="+", help="NAME=FOLDER of images")
    schemes = ["stock", *export.SCHEMES, "int8@cpu", "int8@ethos_u85"]
    parser.add_argument("--schemes", nargs="+", default=schemes)
    parser.add_argument("--images", type=int, default=64, help="for either half")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of draws")
    parser.add_argument("--out", type=pathlib.Path, help="a CSV file")
    options = parser.parse_args()
    model = vit_keras.from_checkpoint(
        options.checkpoint, task="features", image_size=options.image_size
    )
    installed, rows = versions(PACKAGES), []
    for seed in options.seeds:
        for name, _, folder in (photos.partition("=") for photos in options.photos):
            calibration, test = drawn(folder, options.images, seed, model.config)
            reference = predict(model, test)
            for scheme in options.schemes:
                values = measured(model, scheme, calibration, test, reference)
                values += (len(test), seed, machine(), installed)
                row = dict(zip(FIELDS, (name, scheme, *values), strict=True))
                rows.append(row)
                print(row, flush=True)
                if options.out is not None:  # after each, since some take long
                    write_rows(options.out, FIELDS, rows)


if __name__ == "__main__":
    main()
