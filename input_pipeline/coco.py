"""COCO keypoints: from the official download to a prepared dataset.

The download is only read: `annotations/person_keypoints_{train,val}2017.json` beside the
image folders `train2017/` and `val2017/`.
"""

import concurrent.futures
import hashlib
import json
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from input_pipeline import prepared
from input_pipeline.features import features
from input_pipeline.quiet_tf import tf, tfds
from input_pipeline.region_mask import ignore_mask
from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.progress import Progress

FORMAT_VERSION = "1.0.0"  # of the prepared files; a new one prepares everything anew
READ_AHEAD = 64  # images decoded at a time, to bound memory

Json = Mapping[str, Any]
EncodedImage = tuple[bytes, tuple[int, int]]  # the file, (height, width) of its pixels


class CocoKeypoints(prepared.LocalBuilder):
    """One split of a COCO download."""

    VERSION = tfds.core.Version(FORMAT_VERSION)

    def __init__(self, *, config: ConfigDict, split: str, **kwargs):
        self._config = config
        self._split = split
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        num_keypoints = skeletons.of(self._config).num_keypoints
        return tfds.core.DatasetInfo(builder=self, features=features(num_keypoints))

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        return {self._split: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, Json]]:
        dataset = self._config.dataset
        path = annotations_path(self._config, self._split)
        images, annotations = read_annotations(path, skeletons.of(self._config).num_keypoints)
        read_images = _read_ahead(
            images, images_dir(self._config, self._split), dataset.num_workers
        )
        errors = []
        with Progress(len(images), f"prepare {self._split}") as progress:
            for image, read in read_images:
                progress.update(1)
                if not isinstance(read, UserError):
                    yield image["id"], _example(image, *read, annotations[image["id"]])
                elif dataset.skip_invalid:
                    errors.append(str(read))
                else:
                    raise read
        if len(errors) == len(images):
            raise UserError(f"{path} lists no readable image: give another data_dir.")
        if errors:
            logging.warning("Skipped %d invalid images: %s", len(errors), " ".join(errors))


def open_split(config: ConfigDict, split: str) -> prepared.PreparedSplit:
    """The split's examples, prepared on first use; UserError says what is wrong with the data."""
    folder = prepared_dir(config, split)
    builder = CocoKeypoints(config=config, split=split, data_dir=str(folder))
    prepared.prepare(builder)
    return prepared.PreparedSplit(builder, split)


def annotations_path(config: ConfigDict, split: str) -> pathlib.Path:
    """The split's annotation file in the download; UserError if there is none."""
    path = _data_dir(config) / "annotations" / f"person_keypoints_{split}2017.json"
    if not path.is_file():
        raise UserError(
            f"{path} is missing: --config.dataset.data_dir must be the folder of a COCO "
            "download with annotations/ in it."
        )
    return path


def images_dir(config: ConfigDict, split: str) -> pathlib.Path:
    """The split's image folder in the download; UserError if there is none."""
    path = _data_dir(config) / f"{split}2017"
    if not path.is_dir():
        raise UserError(
            f"The image folder {path} is missing: --config.dataset.data_dir must be the "
            f"folder of a COCO download with {split}2017/ in it."
        )
    return path


def prepared_dir(config: ConfigDict, split: str) -> pathlib.Path:
    """Where the split's prepared files go: another folder whenever the download changes.

    A preparation that may leave out images has a folder of its own, so that one that
    must not never finds it.
    """
    path = annotations_path(config, split).resolve()
    stat = path.stat()
    facts = (str(path), stat.st_size, stat.st_mtime_ns, FORMAT_VERSION)
    facts += (config.dataset.skeleton, config.dataset.skip_invalid)
    fingerprint = hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
    root = pathlib.Path(config.dataset.prepared_dir).expanduser().resolve()
    if root.is_relative_to(_data_dir(config).resolve()):
        raise UserError(
            f"config.dataset.prepared_dir {root} lies inside the download, which is only "
            "read: set --config.dataset.prepared_dir to a folder outside it."
        )
    return root / f"coco-{split}-{fingerprint}"


def read_annotations(
    path: pathlib.Path, num_keypoints: int
) -> tuple[list[Json], dict[int, list[Json]]]:
    """The images of an annotation file, and its annotations by image id.

    Raises:
        UserError: not JSON, not keypoint annotations, or another skeleton's.
    """
    try:
        content = json.loads(path.read_bytes())
        images, annotations = list(content["images"]), list(content["annotations"])
    except ValueError:
        raise UserError(f"{path} is not a complete JSON file: download it again.") from None
    except (KeyError, TypeError):
        raise UserError(
            f"{path} has no 'images' and 'annotations': give a COCO annotation file."
        ) from None
    for field in ("id", "file_name"):
        if any(field not in image for image in images):
            raise UserError(f"{path} has an image without '{field}': give a COCO annotation file.")
    if len({image["id"] for image in images}) < len(images):
        raise UserError(f"{path} lists an image id twice: give every image one id.")
    by_image = defaultdict(list)
    for annotation in annotations:
        _check_annotation(path, annotation, num_keypoints)
        by_image[annotation["image_id"]].append(annotation)
    return images, by_image


def read_image(path: pathlib.Path) -> EncodedImage:
    """A whole image file and the (height, width) of its pixels.

    It is decoded by TensorFlow, which refuses truncated files that OpenCV can let pass.

    Raises:
        UserError: the file is missing or does not decode.
    """
    mend = "mend the file or leave such images out with --config.dataset.skip_invalid=True."
    try:
        encoded = path.read_bytes()
        pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}): {mend}") from None
    except tf.errors.OpError:
        raise UserError(f"{path} is not a readable image: {mend}") from None
    return encoded, tuple(pixels.shape[:2])


def _read_ahead(
    images: list[Json], folder: pathlib.Path, workers: int
) -> Iterator[tuple[Json, EncodedImage | UserError]]:
    """Each image with its file, or with what is wrong with that; several at a time."""

    def read(image: Json) -> EncodedImage | UserError:
        try:
            return read_image(folder / image["file_name"])
        except UserError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(images), READ_AHEAD):
            chunk = images[start : start + READ_AHEAD]
            yield from zip(chunk, pool.map(read, chunk), strict=True)


def _check_annotation(path: pathlib.Path, annotation: Json, num_keypoints: int) -> None:
    for field in ("id", "image_id", "bbox", "area", "keypoints"):
        if field not in annotation:
            raise UserError(
                f"{path} has an annotation without '{field}' (id {annotation.get('id')}): "
                "give the person_keypoints file."
            )
    if len(annotation["keypoints"]) != 3 * num_keypoints:
        raise UserError(
            f"{path}: annotation {annotation['id']} has {len(annotation['keypoints'])} numbers "
            f"in 'keypoints' and not 3 x {num_keypoints}: set --config.dataset.skeleton to "
            "the skeleton of this file."
        )


def _example(image: Json, encoded: bytes, size: tuple[int, int], annotations: list[Json]) -> Json:
    """The features of an image; persons without labelled keypoints are masked instead."""
    labelled = [a for a in annotations if _is_labelled(a)]
    masked = [a for a in annotations if not _is_labelled(a)]
    _, mask = cv2.imencode(".png", ignore_mask(masked, *size))
    return {
        "image": encoded,
        "image_id": image["id"],
        "file_name": image["file_name"],
        "height": size[0],
        "width": size[1],
        "ignore_mask": mask.tobytes(),
        "persons": [_person(annotation) for annotation in labelled],
    }


def _is_labelled(annotation: Json) -> bool:
    return not annotation.get("iscrowd") and any(v > 0 for v in annotation["keypoints"][2::3])


def _person(annotation: Json) -> Json:
    return {
        "keypoints": np.reshape(annotation["keypoints"], (-1, 3)).astype(np.float32),
        "bbox": np.asarray(annotation["bbox"], np.float32),
        "area": np.float32(annotation["area"]),
        "id": annotation["id"],
    }


def _data_dir(config: ConfigDict) -> pathlib.Path:
    if not config.dataset.data_dir:
        raise UserError(
            "config.dataset.data_dir is empty: set --config.dataset.data_dir to the folder "
            "of the COCO download."
        )
    path = pathlib.Path(config.dataset.data_dir).expanduser()
    if not path.is_dir():
        raise UserError(f"config.dataset.data_dir {path} is not a folder: give the COCO download.")
    return path
