"""The synthetic crowd on disk: an ordinary prepared dataset with COCO-format ground truth."""

import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
from ml_collections import ConfigDict

from input_pipeline.quiet_tf import tfds
from input_pipeline.storage import reader
from input_pipeline.storage.ahead import by_threads
from input_pipeline.storage.features import features
from input_pipeline.synthcrowd import body, stream
from input_pipeline.synthcrowd.render import Scene
from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.evaluation.box_iou import mean_pair_iou
from pinet_jax.runtime.files import make_folder, write_text
from pinet_jax.runtime.progress import Progress

FORMAT_VERSION = "1.0.0"  # of the files and of the pictures; a new one renders everything anew
JPEG_QUALITY = 95
_CHUNK = 16  # scenes rendered at a time

Json = dict[str, Any]


class SynthCrowd(reader.LocalBuilder):
    """Both splits of a synthetic crowd."""

    VERSION = tfds.core.Version(FORMAT_VERSION)

    def __init__(self, *, config: ConfigDict, folder: pathlib.Path, **kwargs):
        self._config = config
        self.folder = folder
        self._render = stream.renderer(config)
        super().__init__(data_dir=str(folder), **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=features(body.NUM_KEYPOINTS))

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in stream.SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, Json]]:
        examples = []
        count = _num_scenes(self._config, split)
        with Progress(count, f"render {split}") as progress:
            for number, scene in enumerate(self._scenes(split)):
                example = _example(scene, number)
                examples.append({k: v for k, v in example.items() if k != "image"})
                yield number, example
                progress.update(1)
        # Before the dataset is complete, so that a complete one has its ground truth.
        write_text(_annotations_file(self.folder, split), json.dumps(_coco_json(examples)))

    def _scenes(self, split: str) -> Iterator[Scene]:
        """The scenes of a split as NumPy arrays."""
        count = _num_scenes(self._config, split)

        def render(start: int) -> Scene:
            scenes = self._render(split, np.arange(start, start + _CHUNK))
            return Scene(*(np.asarray(array) for array in scenes))

        starts = range(0, count, _CHUNK)
        # On a CPU a thread with scenes of its own is twice as quick as all of them sharing one.
        chunks = by_threads(render, starts, self._config.dataset.num_workers)
        for start, scenes in zip(starts, chunks, strict=True):
            for row in range(min(_CHUNK, count - start)):
                yield Scene(*(array[row] for array in scenes))


def ensure_prepared(config: ConfigDict) -> pathlib.Path:
    """Renders the dataset unless it is there already; its folder in `config.dataset.data_dir`.

    Other synthcrowd numbers or another seed have another folder. What an interruption
    leaves is never mistaken for a dataset.

    Raises:
        UserError: numbers that make no scene, or a folder that cannot be written to.
    """
    return _prepared(config).folder


def open_split(config: ConfigDict, split: str) -> reader.PreparedSplit:
    """The split's examples, rendered on first use."""
    _check_split(split)
    return reader.PreparedSplit(_prepared(config), split)


def annotations_path(config: ConfigDict, split: str) -> pathlib.Path:
    """The split's ground truth as a COCO-format JSON file; rendered on first use."""
    _check_split(split)
    path = _annotations_file(ensure_prepared(config), split)
    if not path.is_file():
        raise UserError(f"{path} is missing: delete {path.parent.parent} to render it again.")
    return path


def _prepared(config: ConfigDict) -> SynthCrowd:
    stream.check(config)
    if not config.dataset.data_dir:
        raise UserError(
            "config.dataset.data_dir is empty: set --config.dataset.data_dir to the folder "
            "that the synthetic crowd is rendered to."
        )
    root = make_folder(config.dataset.data_dir)
    folder = make_folder(root / f"synthcrowd-{_fingerprint(config)}")
    make_folder(folder / "annotations")
    builder = SynthCrowd(config=config, folder=folder)
    reader.prepare(builder)
    return builder


def _fingerprint(config: ConfigDict) -> str:
    """Changes with whatever changes the scenes or the files."""
    facts = {**config.synthcrowd.to_dict(), "seed": config.seed, "format": FORMAT_VERSION}
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _annotations_file(folder: pathlib.Path, split: str) -> pathlib.Path:
    return folder / "annotations" / f"person_keypoints_{split}.json"


def _check_split(split: str) -> None:
    if split not in stream.SPLITS:
        known = ", ".join(stream.SPLITS)
        raise UserError(f"The synthetic crowd has no split '{split}': use one of {known}.")


def _num_scenes(config: ConfigDict, split: str) -> int:
    return {"train": config.synthcrowd.num_train, "val": config.synthcrowd.num_val}[split]


def _example(scene: Scene, number: int) -> Json:
    """The features of scene `number`; a person without a keypoint in the image is masked."""
    height, width = scene.image.shape[:2]
    labelled = (scene.area > 0) & np.any(scene.keypoints[..., 2] > 0, axis=1)
    mask = _mask(scene.boxes[(scene.area > 0) & ~labelled], height, width)
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, image = cv2.imencode(".jpg", scene.image[..., ::-1], quality)
    _, mask = cv2.imencode(".png", mask)
    slots = range(len(scene.area))
    return {
        "image": image.tobytes(),
        "image_id": number,
        "file_name": f"{number:012d}.jpg",
        "height": height,
        "width": width,
        "ignore_mask": mask.tobytes(),
        "persons": [
            {
                "keypoints": scene.keypoints[slot],
                "bbox": scene.boxes[slot],
                "area": scene.area[slot],
                "id": number * len(slots) + slot + 1,  # 0 means unmatched to COCO's tools
            }
            for slot in slots
            if labelled[slot]
        ],
    }


def _mask(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """255 inside the boxes (x, y, width, height)."""
    mask = np.zeros((height, width), np.uint8)
    for x, y, w, h in boxes:
        mask[int(y) : int(np.ceil(y + h)) + 1, int(x) : int(np.ceil(x + w)) + 1] = 255
    return mask


def _coco_json(examples: list[Mapping[str, Any]]) -> Json:
    """The ground truth of a split in COCO's format, with the realised crowding."""
    skeleton = skeletons.COCO
    boxes = [
        np.asarray([p["bbox"] for p in example["persons"]]).reshape(-1, 4) for example in examples
    ]
    return {
        "info": {
            "description": "Synthetic crowd",
            "version": FORMAT_VERSION,
            "mean_pair_iou": round(mean_pair_iou(boxes), 4),
        },
        "images": [
            {
                "id": example["image_id"],
                **{name: example[name] for name in ("file_name", "height", "width")},
            }
            for example in examples
        ],
        "annotations": [
            _annotation(person, example["image_id"])
            for example in examples
            for person in example["persons"]
        ],
        "categories": [
            {
                "id": 1,
                "name": "person",
                "supercategory": "person",
                "keypoints": list(skeleton.keypoints),
                "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
            }
        ],
    }


def _annotation(person: Mapping[str, Any], image_id: int) -> Json:
    keypoints = np.round(person["keypoints"].astype(float), 3)
    return {
        "id": person["id"],
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": keypoints.reshape(-1).tolist(),
        "num_keypoints": int(np.count_nonzero(keypoints[:, 2])),
        "bbox": np.round(person["bbox"].astype(float), 3).tolist(),
        "area": float(person["area"]),
    }
