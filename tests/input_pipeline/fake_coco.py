"""A folder laid out like the COCO download, or another one, with random pictures, for tests."""

import json
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

ANNOTATIONS = "annotations/person_keypoints_{split}2017.json"
IMAGES = "{split}2017"


def write_fake_coco(
    folder: pathlib.Path,
    *,
    num_images: int = 4,
    splits: Sequence[str] = ("train", "val"),
    sizes: Sequence[tuple[int, int]] = ((60, 90), (90, 60)),
    max_persons: int = 3,
    num_keypoints: int = 17,
    annotation_file: str = ANNOTATIONS,
    image_folder: str = IMAGES,
    seed: int = 0,
) -> pathlib.Path:
    """Writes `annotation_file` and `image_folder` of every split under `folder`; returns it.

    Image i of a split has i mod (max_persons + 1) persons with keypoints, one person
    without (masked by a polygon), and the size sizes[i mod len(sizes)] (height, width).
    """
    rng = np.random.default_rng(seed)
    for s, split in enumerate(splits):
        pictures = folder / image_folder.format(split=split)
        pictures.mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        for i in range(num_images):
            height, width = sizes[i % len(sizes)]
            image_id = 1000 * (s + 1) + i
            name = f"{image_id:012}.jpg"
            pixels = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
            smooth = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(pictures / name), smooth)
            images.append({"id": image_id, "file_name": name, "height": height, "width": width})
            for _ in range(i % (max_persons + 1)):
                keypoints = random_keypoints(rng, height, width, num_keypoints)
                annotations.append(annotation(len(annotations) + 1, image_id, keypoints))
            nobody = np.zeros((num_keypoints, 3))
            polygon = [[2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]]
            annotations.append(
                annotation(len(annotations) + 1, image_id, nobody, segmentation=polygon)
            )
        write_annotations(folder, split, images, annotations, num_keypoints, annotation_file)
    return folder


def random_keypoints(
    rng: np.random.Generator, height: int, width: int, num_keypoints: int
) -> np.ndarray:
    """[K, 3]: whole pixels of the image, all labelled."""
    x = rng.integers(0, width, num_keypoints)
    y = rng.integers(0, height, num_keypoints)
    return np.stack([x, y, rng.integers(1, 3, num_keypoints)], axis=-1)


def annotation(number: int, image_id: int, keypoints: np.ndarray, **fields) -> dict:
    """A COCO person; `fields` replace or add to its entries."""
    labelled = keypoints[keypoints[:, 2] > 0]
    corner, extent = [0.0, 0.0], [10.0, 10.0]
    if len(labelled):
        corner = labelled[:, :2].min(axis=0).tolist()
        extent = (np.ptp(labelled[:, :2], axis=0) + 1).tolist()
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "segmentation": [],
        "bbox": corner + extent,
        "area": 0.5 * extent[0] * extent[1],
        "keypoints": keypoints.reshape(-1).tolist(),
        "num_keypoints": len(labelled),
        **fields,
    }


def write_annotations(
    folder: pathlib.Path,
    split: str,
    images: list,
    annotations: list,
    num_keypoints: int = 17,
    annotation_file: str = ANNOTATIONS,
) -> pathlib.Path:
    """Writes (or replaces) the annotation file of a split."""
    path = folder / annotation_file.format(split=split)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [f"keypoint_{k}" for k in range(num_keypoints)]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
    }
    path.write_text(json.dumps(content))
    return path
