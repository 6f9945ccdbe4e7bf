"""Finds the people in images with a trained model, and draws them.

    predict.py --checkpoint WORKDIR IMAGE_OR_FOLDER_OR_GLOB... --out DIR [--config.a.b=c ...]

Writes DIR/NAME.png, the picture with its people, for each image, and
DIR/predictions.json: "images" (id, file_name, width, height) and "results", in the COCO
results format. The checkpoint carries its config; `--config.eval.flip=False` changes a
field of it. Exit code 1 if some images could not be read, 2 for other mistakes.
"""

import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import flags

from pinet_jax import checkpoints, evaluation, files, program, skeletons, visualize
from pinet_jax.errors import UserError
from pinet_jax.fusion import People
from pinet_jax.image_files import find_images, read_image
from pinet_jax.predictor import Predictor
from pinet_jax.progress import Progress

CHUNK_BATCHES = 4  # batches of images in memory at a time

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir of train.py or one checkpoint of it.")
OUT = flags.DEFINE_string("out", None, "Folder for the pictures and predictions.json.")
MIN_SCORE = flags.DEFINE_float(
    "min_score", visualize.MIN_SCORE, "People of a lower score are not drawn."
)


def main(arguments: list[str]) -> int:
    """Runs the program; its exit code."""
    for flag in (CHECKPOINT, OUT):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing: see predict.py --help.")
    config, variables = checkpoints.load_variables(CHECKPOINT.value)
    paths = find_images(program.override(config, arguments)[1:])
    program.enable_compilation_cache(config)
    pictures = picture_paths(paths, files.make_folder(OUT.value))
    predictor = Predictor(config, variables)
    images, results, failures = [], [], []
    with Progress(len(paths), "predict") as progress:
        chunk_size = CHUNK_BATCHES * config.eval.batch_size
        for ids, chunk in read_chunks(paths, chunk_size, failures, progress):
            for image_id, image, people in zip(ids, chunk, predictor(chunk), strict=True):
                record = image_record(image_id, paths[image_id - 1], image)
                found = evaluation.coco_results(image_id, people, config.eval.max_detections)
                images.append(record)
                results += [result | {"file_name": record["file_name"]} for result in found]
                save_picture(pictures[image_id - 1], image, people, skeletons.of(config))
                progress.update()
    write_predictions(pathlib.Path(OUT.value), images, results)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def picture_paths(paths: Sequence[pathlib.Path], out: pathlib.Path) -> list[pathlib.Path]:
    """Where each image's picture goes: its stem, with a number where stems clash.

    Raises:
        UserError: a picture would replace one of the images.
    """
    sources = {path.resolve() for path in paths}
    taken: set[str] = set()
    pictures = []
    for path in paths:
        name, number = path.stem, 1
        while name in taken:
            number += 1
            name = f"{path.stem}_{number}"
        taken.add(name)
        pictures.append(out / f"{name}.png")
        if pictures[-1].resolve() in sources:
            raise UserError(f"--out: '{pictures[-1]}' is one of the images: name another folder.")
    return pictures


def read_chunks(
    paths: Sequence[pathlib.Path], size: int, failures: list[UserError], progress: Progress
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """Ids, counted from 1, and pixels of up to `size` images at a time.

    Images that cannot be read are left out and their errors appended to `failures`.
    """
    for start in range(0, len(paths), size):
        ids, images = [], []
        for image_id, path in enumerate(paths[start : start + size], start=start + 1):
            try:
                images.append(read_image(path))
                ids.append(image_id)
            except UserError as error:
                failures.append(error)
                progress.update()
        yield ids, images


def image_record(image_id: int, path: pathlib.Path, image: np.ndarray) -> dict[str, Any]:
    """The image's entry under "images"."""
    height, width = image.shape[:2]
    return {"id": image_id, "file_name": str(path), "width": width, "height": height}


def save_picture(
    path: pathlib.Path, image: np.ndarray, people: People, skeleton: skeletons.Skeleton
) -> None:
    """Draws the people that score enough and writes the PNG."""
    shown = np.asarray(people.scores) >= MIN_SCORE.value
    drawing = visualize.draw_people(
        image,
        people.keypoints[shown],
        people.keypoint_scores[shown],
        people.scores[shown],
        skeleton,
    )
    visualize.save_png(drawing, path)


def write_predictions(out: pathlib.Path, images: list[dict], results: list[dict]) -> None:
    """Writes OUT/predictions.json, whole or not at all."""
    text = json.dumps({"images": images, "results": results})
    files.write_text(out / "predictions.json", text)


if __name__ == "__main__":
    program.run(main, known_flags_only=True)
