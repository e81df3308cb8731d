"""Run an exported file on a photograph, on a Raspberry Pi or any Linux machine.

    pip install ai-edge-litert numpy pillow
    python raspberry_pi.py model.tflite photo.jpg
    python raspberry_pi.py masks.tflite photo.jpg --out mask.png

Labels, head and preprocessing are in the file, as vit_keras' `to_tflite` wrote them.
Prints the five most probable labels and the time of a run; of a segmenter it writes
the mask in the photograph's size.
"""

import argparse
import json
import time
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps


def read_record(path):
    """How a file was made, and its labels: files in the zip behind the model."""
    try:
        with zipfile.ZipFile(path) as archive:
            record = json.loads(archive.read("export.json"))
            known = "labels.txt" in archive.namelist()
            labels = archive.read("labels.txt").decode() if known else ""
    except (zipfile.BadZipFile, KeyError):
        raise SystemExit(f"'{path}' was not written by vit-export tflite") from None
    return record, labels.splitlines()


def read_photo(path, channels):
    """Open a photograph, upright, as 8 bits of RGB or grey."""
    photo = ImageOps.exif_transpose(Image.open(path))
    if photo.mode.startswith("I"):  # 16 bits, which convert() would clip
        photo = Image.fromarray((np.asarray(photo) / 257).round().astype("uint8"))
    return photo.convert("RGB" if channels == 3 else "L")


def boxes(size, input_size, how):
    """(left, top, right, bottom) of what is seen, in the photograph, and of where that
    lies in the input; both sizes are (height, width)."""
    (rows, columns), (height, width), crop = size, input_size, how["crop"]
    box_w, box_h, placed = columns * crop, rows * crop, (0, 0, width, height)
    if how["resize"] == "cover":
        scale = max(height / rows, width / columns) / crop
        box_w, box_h = width / scale, height / scale
    if how["resize"] == "contain":
        tall = min(max((2 * rows * width + columns) // (2 * columns), 1), height)
        wide = min(max((2 * columns * height + rows) // (2 * rows), 1), width)
        left, top = (width - wide) // 2, (height - tall) // 2
        placed = (left, top, left + wide, top + tall)
    x, y = (columns - box_w) / 2, (rows - box_h) / 2
    seen = max(x, 0.0), max(y, 0.0), min(x + box_w, columns), min(y + box_h, rows)
    return seen, placed


def fit(photo, input_size, how):
    """Resize a photograph as training did: uint8 (height, width, channels)."""
    seen, placed = boxes(photo.size[::-1], input_size, how)
    size = placed[2] - placed[0], placed[3] - placed[1]
    kernel = Image.Resampling[how["interpolation"].upper()]
    resized = np.asarray(photo.resize(size, kernel, box=seen))
    pixels = np.empty((*input_size, len(how["mean"])), "uint8")
    pixels[:] = np.clip(np.round(255 * np.array(how["mean"])), 0, 255)  # the padding
    left, top, right, bottom = placed
    pixels[top:bottom, left:right] = resized.reshape(*size[::-1], -1)
    return pixels


def run(interpreter, pixels, runs=10):
    """The first output of an image as floats, and the median of the times in ms."""
    entry, end = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    values, (scale, zero) = pixels.astype("float32"), entry["quantization"]
    if entry["dtype"] != np.float32:
        limits = np.iinfo(entry["dtype"])
        values = np.clip(np.round(values / (scale or 1) + zero), limits.min, limits.max)
    batch = np.resize(values, entry["shape"]).astype(entry["dtype"])
    times = []
    for _ in range(runs + 1):  # the first is slower
        interpreter.set_tensor(entry["index"], batch)
        start = time.perf_counter()
        interpreter.invoke()
        times.append(1000 * (time.perf_counter() - start))
    output, (scale, zero) = interpreter.get_tensor(end["index"])[0], end["quantization"]
    if scale:
        output = (output.astype("float32") - zero) * np.float32(scale)
    return output, float(np.median(times[1:]))


def probabilities(outputs, record):
    """The probability of each label."""
    if record["activation"] == "linear":
        softmax = np.exp(outputs - outputs.max())
        sigmoid = 1 / (1 + np.exp(-outputs))
        outputs = softmax / softmax.sum() if record["head"] == "softmax" else sigmoid
    if record["head"] == "sigmoid":  # one output, of the second of two classes
        return np.array([1 - outputs[0], outputs[0]])
    return outputs


def in_photograph(maps, size, how):
    """The class of each pixel of a photograph, 255 where the input does not reach, of
    scores (h, w, K) or classes (h, w); `size` is the photograph's (height, width)."""
    seen, placed = boxes(size, maps.shape[:2], how)
    inside = maps[placed[1] : placed[3], placed[0] : placed[2]]
    if maps.ndim == 2:
        inside = np.eye(maps.max() + 1, dtype="float32")[inside]
    at, known = [], []
    for axis in (0, 1):
        low, high = seen[1 - axis], seen[3 - axis]
        centres = np.arange(size[axis]) + 0.5
        at.append((centres - low) * inside.shape[axis] / (high - low))
        known.append((centres > low - 1e-6) & (centres < high + 1e-6))
    mask, best = np.zeros(size, "uint8"), np.full(size, -np.inf, "float32")
    for k in range(inside.shape[-1]):  # one by one: photographs are large
        scores = between(between(inside[..., k], at[0]).T, at[1]).T
        mask[scores > best] = k
        best = np.maximum(best, scores)
    return np.where(known[0][:, None] & known[1], mask, 255).astype("uint8")


def between(values, at):
    """Rows of a map at continuous positions, interpolated between their centres."""
    exact = np.clip(at - 0.5, 0, len(values) - 1)
    below = exact.astype(int)
    share = (exact - below).astype("float32")[:, None]
    return values[below] * (1 - share) + values[np.ceil(exact).astype(int)] * share


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("photo")
    parser.add_argument("--out", default="mask.png", help="the mask of a segmenter")
    parser.add_argument("--threads", type=int, default=4)
    arguments = parser.parse_args()
    record, labels = read_record(arguments.model)
    interpreter = Interpreter(arguments.model, num_threads=arguments.threads)
    interpreter.allocate_tensors()
    height, width, channels = interpreter.get_input_details()[0]["shape"][1:]
    if (ends := len(interpreter.get_output_details())) > 1:
        raise SystemExit(f"'{arguments.model}' must have one output, not {ends}")
    photo, how = read_photo(arguments.photo, channels), record["preprocessing"]
    outputs, ms = run(interpreter, fit(photo, (height, width), how))
    if record["head"] == "segmentation":
        mask = in_photograph(outputs, photo.size[::-1], how)
        picture = Image.fromarray(mask)
        picture.putpalette(np.random.default_rng(0).bytes(768))
        picture.save(arguments.out)
        shares = np.bincount(mask[mask < 255]) / max((mask < 255).sum(), 1)
    elif record["head"] in ("softmax", "sigmoid", "multi_label"):
        shares = probabilities(outputs, record)
    else:
        raise SystemExit(f"no labels: {outputs.ravel()[:5]}, {ms:.1f} ms")
    for i in np.argsort(-shares, kind="stable")[:5]:
        print(f"{shares[i]:7.2%}  {labels[i] if labels else i}")
    print(f"{ms:.1f} ms with {arguments.threads} threads, {record['scheme']}")


if __name__ == "__main__":
    main()
