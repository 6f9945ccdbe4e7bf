"""One split of COCO-format keypoint annotations as a prepared dataset.

Beside the examples, and complete whenever they are, the prepared folder holds
`annotations.json`, the ground truth of exactly these examples for scoring, and
`summary.json`, what was read and what was left out.
"""

import hashlib
import json
import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from input_pipeline.datasets.layout import Found
from input_pipeline.quiet_tf import tf, tfds
from input_pipeline.storage import annotations, reader
from input_pipeline.storage.ahead import by_threads
from input_pipeline.storage.annotations import Problem
from input_pipeline.storage.features import features
from input_pipeline.storage.region_mask import ignore_mask
from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.evaluation import coco_annotations
from pinet_jax.evaluation.coco_annotations import Json
from pinet_jax.runtime import files
from pinet_jax.runtime.progress import Progress

FORMAT_VERSION = "1.2.0"  # of the prepared files; a new one prepares everything anew
NAMED_PROBLEMS = 5  # in a warning; the summary has all

EncodedImage = tuple[bytes, tuple[int, int]]  # the file, (height, width) of its pixels


class Keypoints(reader.LocalBuilder):
    """Makes the prepared files of one split, or opens them.

    Args:
        config: its skeleton says how many keypoints there are.
        split: its name.
        found: what it is made from; None to open what is there.
        data_dir: the folder of the prepared files.
    """

    VERSION = tfds.core.Version(FORMAT_VERSION)

    def __init__(self, *, config: ConfigDict, split: str, found: Found | None, **kwargs):
        self._config = config
        self._split = split
        self._found = found
        super().__init__(**kwargs)

    @property
    def annotations_path(self) -> pathlib.Path:
        """The ground truth of these examples."""
        return pathlib.Path(self.data_dir) / "annotations.json"

    @property
    def summary_path(self) -> pathlib.Path:
        """What was read and what was left out."""
        return pathlib.Path(self.data_dir) / "summary.json"

    @property
    def split_name(self) -> str:
        """As TFDS can have it."""
        return re.sub(r"\W", "_", self._split)

    def _info(self) -> tfds.core.DatasetInfo:
        num_keypoints = skeletons.of(self._config).num_keypoints
        return tfds.core.DatasetInfo(builder=self, features=features(num_keypoints))

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        return {self.split_name: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, Json]]:
        source = source_facts(self._config, self._found)
        content = _read(self._config, self._found)
        images, counts = [], Counter()
        problems = list(content.problems)
        with Progress(len(content.images), f"prepare {self._split}") as progress:
            for image, read in _read_ahead(content.images, self._found.images, self._config):
                progress.update(1)
                if isinstance(read, UserError):
                    problems.append(Problem("unreadable image", str(read)))
                    continue
                example = _example(image, *read, content.of_image[image["id"]])
                counts.update(_counts(image, example, content.of_image[image["id"]]))
                images.append({**image, "height": example["height"], "width": example["width"]})
                yield image["id"], example
        if not images:
            raise UserError(
                f"{self._found.annotations} lists no readable image: give another data_dir."
            )
        # Into the folder that TFDS renames when all is done.
        self._write_annotations(content, images)
        self._write_summary({"source": source, **_results(counts, problems)})
        _warn(problems)

    def _write_annotations(self, content: annotations.Annotations, images: list[Json]) -> None:
        """Without what was left out, and with the sizes of the pixels."""
        if self._found.scored:
            persons = [person for image in images for person in content.of_image[image["id"]]]
            truth = {**content.header, "images": images, "annotations": persons}
            files.write_text(self.annotations_path, json.dumps(truth))

    def _write_summary(self, facts: Json) -> None:
        head = {"dataset": self._config.dataset.name, "split": self._split}
        files.write_text(self.summary_path, json.dumps({**head, **facts}, indent=2) + "\n")


def source_facts(config: ConfigDict, found: Found) -> dict[str, Any]:
    """What prepared files are made from; changes when they would."""
    content, sha256 = coco_annotations.load(found.annotations, found.scored)
    return {
        "annotations": found.annotations.name,
        "annotations_sha256": sha256,
        "image_sizes_sha256": _image_sizes_hash(content["images"], found.images),
        "scored": found.scored,
        "skeleton": config.dataset.skeleton,
        "num_keypoints": skeletons.of(config).num_keypoints,
        "skip_invalid": config.dataset.skip_invalid,
        "format": FORMAT_VERSION,
    }


def read_image(path: pathlib.Path) -> EncodedImage:
    """A whole image file and the (height, width) of its pixels.

    It is decoded by TensorFlow, which refuses truncated files that OpenCV can let pass.

    Raises:
        UserError: the file is missing or does not decode.
    """
    mend = f"mend the file, or {annotations.SKIP}."
    try:
        encoded = path.read_bytes()
        pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}): {mend}") from None
    except tf.errors.OpError:
        raise UserError(f"{path} is not a readable image: {mend}") from None
    return encoded, tuple(pixels.shape[:2])


def _read(config: ConfigDict, found: Found) -> annotations.Annotations:
    num_keypoints = skeletons.of(config).num_keypoints
    skip_invalid = config.dataset.skip_invalid
    return annotations.read(found.annotations, num_keypoints, found.scored, skip_invalid)


def _read_ahead(
    images: list[Json], folder: pathlib.Path, config: ConfigDict
) -> Iterator[tuple[Json, EncodedImage | UserError]]:
    """Each image with its file, or with what is wrong with that if such may be skipped."""

    def read(image: Json) -> EncodedImage | UserError:
        try:
            return read_image(folder / image["file_name"])
        except UserError as error:
            if not config.dataset.skip_invalid:
                raise
            return error

    encoded = by_threads(read, images, config.dataset.num_workers)
    return zip(images, encoded, strict=True)


def _example(image: Json, encoded: bytes, size: tuple[int, int], persons: list[Json]) -> Json:
    """The features of an image; persons without labelled keypoints are masked instead."""
    masked = [person for person in persons if not coco_annotations.has_label(person)]
    _, mask = cv2.imencode(".png", ignore_mask(masked, *size))
    return {
        "image": encoded,
        "image_id": image["id"],
        "file_name": image["file_name"],
        "height": size[0],
        "width": size[1],
        "ignore_mask": mask.tobytes(),
        "persons": [_person(person) for person in persons if coco_annotations.has_label(person)],
    }


def _person(annotation: Json) -> Json:
    return {
        "keypoints": np.reshape(annotation["keypoints"], (-1, 3)).astype(np.float32),
        "bbox": np.asarray(annotation["bbox"], np.float32),
        "area": np.float32(coco_annotations.area(annotation)),
        "id": annotation["id"],
    }


def _counts(image: Json, example: Json, persons: list[Json]) -> dict[str, int]:
    """What one image adds to the summary."""
    found = example["persons"]
    size = (example["height"], example["width"])
    told = (image.get("height", size[0]), image.get("width", size[1]))
    return {
        "images": 1,
        "images_with_persons": int(bool(found)),
        "persons": len(found),
        "persons_scored": sum(map(coco_annotations.counts, persons)),
        "keypoints": sum(np.count_nonzero(person["keypoints"][:, 2]) for person in found),
        "masked": len(persons) - len(found),
        "sizes_differ": int(told != size),
    }


def _results(counts: Counter, problems: list[Problem]) -> Json:
    return {
        "counts": {name: int(count) for name, count in counts.items()},
        "skipped": dict(Counter(problem.kind for problem in problems)),
        "skipped_because": [problem.sentence for problem in problems],
    }


def _warn(problems: list[Problem]) -> None:
    if problems:
        kinds = Counter(problem.kind for problem in problems)
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        named = " ".join(problem.sentence for problem in problems[:NAMED_PROBLEMS])
        logging.warning("Skipped %d invalid (%s): %s", len(problems), counted, named)


def _image_sizes_hash(images: Iterable[Json], folder: pathlib.Path) -> str:
    """Of every listed file's name and bytes: tells of other images at little cost."""
    digest = hashlib.sha256()
    for image in images:
        path = folder / str(image.get("file_name"))
        size = path.stat().st_size if path.is_file() else None
        digest.update(repr((path.name, size)).encode())
    return digest.hexdigest()
