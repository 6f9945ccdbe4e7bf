"""What every prepared dataset stores for an image."""

import numpy as np

from input_pipeline.quiet_tf import tfds


def features(num_keypoints: int) -> tfds.features.FeaturesDict:
    """The features of a prepared split, whatever it was made from.

    image: uint8 [H, W, 3] RGB, stored as the source's JPEG bytes.
    image_id, file_name, height, width: of the source image, pixels.
    ignore_mask: uint8 [H, W, 1], 255 where the loss must not look (crowd regions and
        persons without labelled keypoints), else 0.
    persons: those with labelled keypoints; keypoints float32 [K, 3] (x, y in image
        pixels, v in {0, 1, 2}), bbox float32 [4] (x, y, width, height), area in image
        pixels squared, id of the annotation.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(None, None, 3), dtype=np.uint8, encoding_format="jpeg"
            ),
            "image_id": np.int64,
            "file_name": tfds.features.Text(),
            "height": np.int32,
            "width": np.int32,
            "ignore_mask": tfds.features.Image(
                shape=(None, None, 1), dtype=np.uint8, encoding_format="png"
            ),
            "persons": tfds.features.Sequence(
                {
                    "keypoints": tfds.features.Tensor(shape=(num_keypoints, 3), dtype=np.float32),
                    "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    "area": np.float32,
                    "id": np.int64,
                }
            ),
        }
    )
