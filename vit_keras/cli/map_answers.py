"""What a model says of each pixel of photographs, as files and lines of text."""

import numpy as np
from PIL import Image

from .. import preprocessing as pp
from ..atomic import check_writable, publishing
from ..mask_pictures import depth_picture, overlay_mask, palette_image
from ..training.dense_evaluation import chosen_map
from .answers import check_names_differ


def write_maps(model, labels, files, out):
    """Write the maps of photographs in their own sizes, and pictures of them.

    Of a segmentation `OUT/NAME.mask.png`, whose pixels are the numbers of classes, and
    `OUT/NAME.overlay.png` with a legend; the classes that are there are printed with
    their share of the pixels. Of depths `OUT/NAME.depth.tiff` (float32) and, in grey,
    `OUT/NAME.depth.png`; of inverse depths `OUT/NAME.inverse_depth.tiff` and `.png`.

    Raises:
        ValueError: two images have the same name.
        OSError: `out` cannot be written to.
    """
    check_names_differ(files)
    config = model.config
    check_writable(out)
    for file in files:
        photo = pp.read_image(file, channels=config.channels)
        pixels = pp.fit(photo, config.image_size, config.preprocessing)
        inputs = pp.normalize(pixels[None], config.preprocessing)
        values = np.asarray(model.predict_on_batch(inputs))[0]
        values = pp.to_photograph(values, photo.shape[:2], config.preprocessing)
        found = chosen_map(values, config.head)
        if config.head == "segmentation":
            classes = labels or [str(i) for i in range(config.classes)]
            counts = np.bincount(found.ravel(), minlength=256)[: len(classes)]
            order = np.argsort(-counts, kind="stable")
            answer = ", ".join(
                f"{classes[i]} {counts[i] / found.size:.1%}" for i in order if counts[i]
            )
            pictures = {
                "mask.png": palette_image(found),
                "overlay.png": Image.fromarray(overlay_mask(photo, found, classes)),
            }
        else:
            known = found[~np.isnan(found)]
            low, middle, high = np.quantile(known, (0, 0.5, 1))
            answer, kind = f"{low:.4g} to {high:.4g}, median {middle:.4g}", "depth"
            if config.depth_type == "inverse":
                answer, kind = f"{answer}, without scale and shift", "inverse_depth"
            answer = f"{kind.replace('_', ' ')} {answer}"
            picture = depth_picture(found, config.depth_type)
            pictures = {
                f"{kind}.tiff": Image.fromarray(found.astype("float32")),
                f"{kind}.png": Image.fromarray(picture),
            }
        print(f"{file}: {answer}")
        for kind, picture in pictures.items():
            path = out / f"{file.stem}.{kind}"
            with publishing(path) as work:
                picture.save(work)
            print(f"wrote {path}")
