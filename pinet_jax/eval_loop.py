"""The evaluation run: every image of a split predicted, scored and shown."""

import collections
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from pinet_jax import evaluation, files, skeletons, visualize
from pinet_jax.errors import UserError
from pinet_jax.predictor import Predictor
from pinet_jax.progress import Progress

SKELETON_FIELDS = ("skeleton", "custom_skeleton")
GRID_EXAMPLES = 8  # images in the picture of predictions beside the truth


def evaluate(config: ConfigDict, variables: Mapping[str, Any], out: pathlib.Path) -> dict:
    """Predicts config.dataset.eval_split and scores it.

    Writes under `out`: results.json in the COCO results format, metrics.json and
    predictions.png, some images with the predictions beside the truth.

    Returns:
        The metrics of `evaluation.evaluate`.
    """
    from input_pipeline import eval_data

    split = config.dataset.eval_split
    annotations = eval_data.annotations_path(config, split)
    eval_data.num_eval_images(config, split)  # prepares the data, or says what is wrong with it
    out = files.make_folder(out)
    results = predict_split(config, variables, split)
    files.write_text(out / "results.json", json.dumps(results))
    skeleton = skeletons.of(config)
    metrics = evaluation.evaluate(results, annotations, skeleton, config.eval.max_detections)
    files.write_text(out / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    examples = _examples(config, results, split)
    if examples:
        visualize.prediction_grid(examples, skeleton, out / "predictions.png")
    return metrics


def predict_split(config: ConfigDict, variables: Mapping[str, Any], split: str) -> list[dict]:
    """COCO-format results of every image of the split, each image exactly once."""
    from input_pipeline import eval_data

    predictor = Predictor(config, variables)
    results = []
    with Progress(eval_data.num_eval_images(config, split), "evaluate") as progress:
        for batch in eval_data.eval_batches(config, split):
            people = jax.device_get(predictor.predict_batch(batch.images, batch.to_image))
            for row in np.flatnonzero(batch.valid):
                found = people.of_image(row)
                results += evaluation.coco_results(
                    batch.image_id[row], found, config.eval.max_detections
                )
            progress.update(int(batch.valid.sum()))
    return results


def describe_split(config: ConfigDict) -> str:
    """What is evaluated, in one line: numbers of images and persons, and the crowding."""
    from input_pipeline import eval_data
    from input_pipeline.synthcrowd.crowding import mean_pair_iou

    split = config.dataset.eval_split
    content = json.loads(eval_data.annotations_path(config, split).read_bytes())
    boxes = collections.defaultdict(list)
    for annotation in content["annotations"]:
        if annotation["num_keypoints"] and not annotation["iscrowd"]:
            boxes[annotation["image_id"]].append(annotation["bbox"])
    iou = mean_pair_iou(np.array(scene) for scene in boxes.values())
    return (
        f"{config.dataset.name} {split}: {len(content['images'])} images, "
        f"{sum(map(len, boxes.values()))} people, mean box IoU with the nearest {iou:.2f}"
    )


def check_same_model(config: ConfigDict, trained: ConfigDict) -> None:
    """UserError unless the checkpoint's config describes the same network."""
    wanted, saved = (
        {**c.model.to_dict(), **{f"dataset.{name}": c.dataset[name] for name in SKELETON_FIELDS}}
        for c in (config, trained)
    )
    for field, value in wanted.items():
        # How fresh weights are drawn does not matter to trained ones.
        if saved.get(field) != value and field != "conv_init":
            name = field if "." in field else f"model.{field}"
            raise UserError(
                f"The checkpoint is of another config: config.{name} is {saved.get(field)!r} there "
                f"and {value!r} here; evaluate with the config it was trained with."
            )


def _examples(config: ConfigDict, results: list[dict], split: str) -> list[visualize.Example]:
    """The first images with labelled people, with what was predicted there."""
    from input_pipeline import eval_data

    num_keypoints = skeletons.of(config).num_keypoints
    ids = eval_data.image_ids_with_people(config, split)[:GRID_EXAMPLES]
    examples = []
    for image_id, (image, persons) in zip(
        ids, eval_data.load_images(config, split, ids), strict=True
    ):
        found = [result for result in results if result["image_id"] == image_id]
        found = [result for result in found if result["score"] >= visualize.MIN_SCORE]
        poses = np.reshape([r["keypoints"] for r in found], (-1, num_keypoints, 3))
        examples.append(
            visualize.Example(
                image=image,
                keypoints=poses[..., :2],
                keypoint_scores=poses[..., 2],
                scores=np.array([result["score"] for result in found]),
                truth=persons["keypoints"],
                caption=f"image {image_id}",
            )
        )
    return examples
