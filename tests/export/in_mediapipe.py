"""Run by the tests in the environment of MediaPipe: what it sees in a `.tflite` file.

python in_mediapipe.py classify IMAGES.npy FILE ...   labels and scores, as JSON
python in_mediapipe.py segment IMAGES.npy FILE ...    labels and masks, as JSON
python in_mediapipe.py unpack METADATA                by its own schema, as JSON
python in_mediapipe.py golden METADATA                writes one by its own schema
"""

import json
import pathlib
import sys

import flatbuffers
import numpy as np
from mediapipe.tasks.metadata import metadata_schema_py_generated as schema


def classify(images, *files):
    """{file: [{label: score}, one per image], or the message of a refusal}"""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    images, found = np.load(images), {}
    for file in files:
        options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=file))
        try:
            classifier = vision.ImageClassifier.create_from_options(options)
        except ValueError as error:
            found[file] = str(error)
            continue
        found[file] = []
        with classifier:
            for pixels in images:
                image = mediapipe.Image(
                    image_format=mediapipe.ImageFormat.SRGB, data=pixels
                )
                (head,) = classifier.classify(image).classifications
                scores = {c.category_name: c.score for c in head.categories}
                found[file].append(scores)
    return found


def segment(images, *files):
    """{file: {"labels": names, "masks": [(categories, confidences of each class), one
    per image]}, or the message of a refusal}"""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    images, found = np.load(images), {}
    for file in files:
        options = vision.ImageSegmenterOptions(
            BaseOptions(model_asset_path=file), output_category_mask=True
        )
        try:
            segmenter = vision.ImageSegmenter.create_from_options(options)
        except ValueError as error:
            found[file] = str(error)
            continue
        with segmenter:
            found[file] = {"labels": list(segmenter.labels), "masks": []}
            for pixels in images:
                image = mediapipe.Image(
                    image_format=mediapipe.ImageFormat.SRGB, data=pixels
                )
                result = segmenter.segment(image)
                shares = [m.numpy_view().tolist() for m in result.confidence_masks]
                category = result.category_mask.numpy_view().tolist()
                found[file]["masks"].append((category, shares))
    return found


def unpack(file):
    """The fields of a metadata flatbuffer as nested dicts."""
    content = pathlib.Path(file).read_bytes()
    return plain(schema.ModelMetadataT.InitFromPackedBuf(content, 0))


def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, np.ndarray)):
        return [plain(item) for item in value]
    if hasattr(value, "__dict__"):
        fields = vars(value).items()
        return {name: plain(item) for name, item in fields if item is not None}
    return value.item() if isinstance(value, np.generic) else value


def golden(file):
    """Every field that ours has, and some that it has not."""
    labels = schema.AssociatedFileT(
        name="labels.txt", description="名", locale="ja", version="2"
    )
    labels.type = schema.AssociatedFileType.TENSOR_AXIS_LABELS
    image = schema.ImagePropertiesT(colorSpace=schema.ColorSpaceType.GRAYSCALE)
    image.defaultSize = schema.ImageSizeT(width=640, height=480)
    content = schema.ContentT(
        contentPropertiesType=schema.ContentProperties.ImageProperties,
        contentProperties=image,
        range=schema.ValueRangeT(min=1, max=2),
    )
    normalise = schema.ProcessUnitT(
        optionsType=schema.ProcessUnitOptions.NormalizationOptions,
        options=schema.NormalizationOptionsT(mean=[127.5, 0.0], std=[0.5, 2.0]),
    )
    tokenise = schema.ProcessUnitT(
        optionsType=schema.ProcessUnitOptions.BertTokenizerOptions,
        options=schema.BertTokenizerOptionsT(vocabFile=[labels]),
    )
    entry = schema.TensorMetadataT(
        name="in",
        description="d",
        dimensionNames=["height", "width"],
        content=content,
        processUnits=[normalise, tokenise],
        stats=schema.StatsT(max=[255.0], min=[-1.0, 0.5]),
    )
    feature = schema.ContentT(
        contentPropertiesType=schema.ContentProperties.FeatureProperties,
        contentProperties=schema.FeaturePropertiesT(),
    )
    exit_ = schema.TensorMetadataT(
        name="out", content=feature, associatedFiles=[labels]
    )
    graph = schema.SubGraphMetadataT(
        name="g",
        description="h",
        inputTensorMetadata=[entry],
        outputTensorMetadata=[exit_],
        associatedFiles=[labels],
        outputTensorGroups=[schema.TensorGroupT(name="t", tensorNames=["out"])],
    )
    model = schema.ModelMetadataT(
        name="Löwe",
        description="e",
        version="v3",
        subgraphMetadata=[graph],
        author="a",
        license="Apache-2.0",
        associatedFiles=[labels],
        minParserVersion="1.5.0",
    )
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"M001")
    pathlib.Path(file).write_bytes(builder.Output())


if __name__ == "__main__":
    commands = {f.__name__: f for f in (classify, segment, unpack, golden)}
    print(json.dumps(commands[sys.argv[1]](*sys.argv[2:])))
