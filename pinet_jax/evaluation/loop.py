"""The evaluation run: every image of a split predicted, scored and shown."""

import contextlib
import errno
import json
import math
import os
import pathlib
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import jax
import numpy as np
from ml_collections import ConfigDict

from pinet_jax import skeletons, visualize
from pinet_jax.data import Data, EvalBatch
from pinet_jax.errors import UserError
from pinet_jax.evaluation import coco_annotations, crowding, ground_truth, report, scoring
from pinet_jax.evaluation.box_iou import mean_pair_iou
from pinet_jax.evaluation.report import about
from pinet_jax.evaluation.report.worst import LoadImages
from pinet_jax.evaluation.results import coco_results
from pinet_jax.inference.fusion import People
from pinet_jax.inference.predictor import Predictor
from pinet_jax.runtime import files, hosts
from pinet_jax.runtime.progress import Progress

GRID_EXAMPLES = 8  # images in the picture of predictions beside the truth
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
BATCHES_AHEAD = 2  # on the device before results are waited for


def evaluate(
    config: ConfigDict,
    variables: Mapping[str, Any],
    data: Data,
    out: str | os.PathLike,
    model: str = "",
) -> dict[str, float]:
    """Predicts the evaluated split of `data` and scores it.

    Writes under `out`: results.json in the COCO results format, predictions.png, some
    images with the predictions beside the truth, and what `score` writes. Of several
    processes each predicts its share; the first one scores and writes. While it predicts,
    what it has found so far is in results.jsonl.partial, a line a person.

    Args:
        config: model, skeleton and eval are read.
        variables: of the model.
        data: what is evaluated.
        out: a folder.
        model: where it is from, for the report.

    Returns:
        The metrics of `evaluation.metrics`, on every process; empty if the split has no
        ground truth, which then only the benchmark's server has.
    """
    annotations = data.eval_annotations()
    data.num_eval_images()  # prepares the data, or says what is wrong with it
    partial = None
    if hosts.is_main():
        out = files.make_folder(out)
        partial = None if files.is_cloud(out) else out / "results.jsonl.partial"
    results = predict_split(config, variables, data, partial)
    scored = []
    if hosts.is_main():
        files.write_text(out / "results.json", json.dumps(results))
        if partial is not None:
            partial.unlink(missing_ok=True)
        if annotations is None:
            print(f"no ground truth of {data.eval_name}: its benchmark's server scores them and")
            print(f"wants {out / 'results.json'}", flush=True)
            scored.append({})
        else:
            header = about.of_model(config, model)
            pictures = image_loader(data)
            scored.append(
                score(config, results, annotations, out, header=header, load_images=pictures)
            )
        _draw_examples(config, results, data, out / "predictions.png")
    return hosts.gather(scored)[0]


def score(
    config: ConfigDict,
    results: list[dict],
    annotations: str | os.PathLike,
    out: str | os.PathLike | None,
    name: str = "The results",
    header: Mapping[str, str] | None = None,
    load_images: LoadImages | None = None,
) -> dict[str, float]:
    """Scores results and prints the scores, and AP by crowding.

    Writes both to metrics.json, the latter drawn to crowding.png, and report.html, under
    `out` unless it is None.

    Args:
        config: the skeleton, config.eval.max_detections and config.eval.iou_intervals.
        results: in the COCO results format.
        annotations: the ground truth, a COCO keypoint file.
        out: a folder.
        name: what the results are called in messages.
        header: what the report says of them, names and what they are; the first is its title.
        load_images: for the report's pictures.

    Returns:
        The metrics of `evaluation.metrics`.

    Raises:
        UserError: results or annotations are wrong.
    """
    skeleton = skeletons.of(config)
    scorer = scoring.match(results, annotations, skeleton, config.eval.max_detections, name=name)
    out = None if out is None else files.make_folder(out)
    metrics = scoring.metrics(scorer)
    levels = crowding.levels(scorer, config.eval.iou_intervals)
    print(f"{scoring.table(metrics)}\n\n{crowding.table(levels)}", flush=True)
    if out is not None:
        content = metrics | crowding.as_json(levels)
        crowding.plot(levels, out / "crowding.png")
        files.write_text(out / "metrics.json", json.dumps(content, indent=2) + "\n")
        report.write_report(
            out / "report.html",
            scorer,
            skeleton,
            metrics,
            crowding=(out / "crowding.png").read_bytes(),
            about={
                **(header or {"results": name}),
                **about.of_scoring(config, scorer.truth, annotations),
            },
            config=config.to_json_best_effort(indent=2),
            load_images=load_images,
        )
    return metrics


def predict_split(
    config: ConfigDict,
    variables: Mapping[str, Any],
    data: Data,
    partial: pathlib.Path | None = None,
) -> list[dict]:
    """COCO-format results of every image of the evaluated split, each image exactly once.

    Of several processes each predicts its share; all get all results, by rising image id
    and falling score. The memory needed while predicting does not grow: results go to disk
    as they come.

    Args:
        config: model, skeleton and eval are read.
        variables: of the model.
        data: what is evaluated.
        partial: file that takes this process's results meanwhile, JSON lines; a temporary
            one that is gone afterwards unless given.

    Raises:
        UserError: the disk is full.
    """
    predictor = Predictor(config, variables)
    num_images = math.ceil(data.num_eval_images() / jax.process_count())
    with _kept(partial) as lines, Progress(num_images, "evaluate") as progress:
        for batch, people in _predicted(predictor, data.eval_batches()):
            rows = np.flatnonzero(batch.valid).tolist()
            for row in rows:
                image_id = int(batch.image_id[row])
                found = coco_results(image_id, people.of_image(row), config.eval.max_detections)
                lines.writelines(json.dumps(result) + "\n" for result in found)
            lines.flush()
            progress.update(len(rows))
        lines.seek(0)
        results = [json.loads(line) for line in lines]
    # By image, so that the file does not depend on batches and processes.
    return sorted(hosts.gather(results), key=lambda result: result["image_id"])


def image_loader(data: Data) -> LoadImages:
    """Loads images of the evaluated split by their ids."""

    def load(image_ids: Sequence[int]) -> list[np.ndarray]:
        return [image for image, _ in data.load_eval_images(image_ids)]

    return load


def describe_split(config: ConfigDict, data: Data) -> str:
    """What is evaluated, in one line: numbers of images and persons, and the crowding."""
    annotations = data.eval_annotations()
    if annotations is None:
        return f"{data.eval_name}: {data.num_eval_images()} images, no ground truth"
    truth = ground_truth.read_truth(annotations, skeletons.of(config))
    boxes = defaultdict(list)
    for person in filter(coco_annotations.counts, truth.persons):
        boxes[person["image_id"]].append(person["bbox"])
    iou = mean_pair_iou(np.array(scene) for scene in boxes.values())
    return (
        f"{data.eval_name}: {len(truth.image_ids)} images, "
        f"{sum(map(len, boxes.values()))} people, mean box IoU with the nearest {iou:.2f}"
    )


def _predicted(
    predictor: Predictor, batches: Iterable[EvalBatch]
) -> Iterator[tuple[EvalBatch, People]]:
    """Batches with their people, in order; the device is kept some batches ahead of the host."""
    waiting = deque()
    for batch in batches:
        people = predictor.predict_batch(batch.images, batch.to_image)
        jax.tree.map(lambda array: array.copy_to_host_async(), people)
        waiting.append((batch, people))
        if len(waiting) > BATCHES_AHEAD:
            batch, people = waiting.popleft()
            yield batch, jax.device_get(people)
    for batch, people in waiting:
        yield batch, jax.device_get(people)


@contextlib.contextmanager
def _kept(path: pathlib.Path | None) -> Iterator[IO[str]]:
    """A file to write and then to read; UserError where the disk gets full."""
    try:
        with open(path, "w+") if path else tempfile.TemporaryFile("w+") as file:
            yield file
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = path.parent if path else tempfile.gettempdir()
        raise UserError(
            f"Cannot keep the results ({error.strerror}): free some space in '{where}'."
        ) from None


def _draw_examples(config: ConfigDict, results: list[dict], data: Data, path: pathlib.Path) -> None:
    examples = _examples(config, results, data)
    if examples:
        visualize.prediction_grid(examples, skeletons.of(config), path)


def _examples(config: ConfigDict, results: list[dict], data: Data) -> list[visualize.Example]:
    """The first images with labelled people, with what was predicted there."""
    num_keypoints = skeletons.of(config).num_keypoints
    ids = data.eval_ids_with_people()[:GRID_EXAMPLES]
    examples = []
    for image_id, (image, persons) in zip(ids, data.load_eval_images(ids), strict=True):
        found = [result for result in results if result["image_id"] == image_id]
        found = [result for result in found if result["score"] >= visualize.MIN_SCORE]
        poses = np.array([r["keypoints"] for r in found], float).reshape(-1, num_keypoints, 3)
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
