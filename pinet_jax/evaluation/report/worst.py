"""The images with most errors, predictions and truth side by side."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from pinet_jax import visualize
from pinet_jax.data import RgbImage
from pinet_jax.errors import UserError
from pinet_jax.evaluation.report import page
from pinet_jax.evaluation.report.breakdown import DETECTION_KINDS, Outcome
from pinet_jax.evaluation.scoring import ImageMatches
from pinet_jax.skeletons import Skeleton
from pinet_jax.visualize.canvas import resized, scaled_points

NUM_WORST = 8  # images shown
PICTURE_SIDE = 720  # pixels of a picture's longer side

LoadImages = Callable[[Sequence[int]], Iterable[RgbImage]]


def blocks(
    images: Sequence[ImageMatches],
    outcomes: Sequence[Outcome],
    skeleton: Skeleton,
    load_images: LoadImages | None,
) -> list[str]:
    """The section on the images with most errors.

    Args:
        images: with all their detections.
        outcomes: of each image, of its detections of `visualize.MIN_SCORE` or more.
        skeleton: of the keypoints.
        load_images: the pictures by image ids. Without it, or where it raises UserError,
            the images are listed and not shown.

    Returns:
        HTML.
    """
    worst = [pair for pair in zip(images, outcomes, strict=True) if pair[1].errors]
    worst = sorted(worst, key=lambda pair: (-pair[1].errors, pair[0].image_id))[:NUM_WORST]
    section = [
        page.heading("Worst images"),
        page.note(
            "Those with most persons not found and detections not right, by OKS 0.5, among the "
            f"detections of score {visualize.MIN_SCORE:g} or more, which are drawn. Light limbs "
            "are the person's left, dark ones its right; hollow joints are hidden."
        ),
    ]
    ids = [image.image_id for image, _ in worst]
    try:
        loaded = None if load_images is None else list(load_images(ids))
    except UserError as error:
        return [*section, page.note(f"No pictures: {error}"), _list_of(worst)]
    if loaded is None:
        return [*section, _list_of(worst)]
    for picture, (image, errors) in zip(loaded, worst, strict=True):
        drawn = _drawn(picture, image.best(len(errors.scores)), skeleton)
        section.append(page.pair(drawn, f"image {image.image_id}: {_summary(errors)}"))
    return section


def _list_of(worst: Sequence[tuple[ImageMatches, Outcome]]) -> str:
    rows = [(f"image {image.image_id}", _summary(errors)) for image, errors in worst]
    return page.table(("image", "errors"), rows)


def _summary(errors: Outcome) -> str:
    """Such as "3 of 5 people found; 1 duplicate, 2 false"."""
    numbers = {kind: errors.detections.count(kind) for kind in DETECTION_KINDS[1:]}
    wrong = ", ".join(f"{number} {kind}" for kind, number in numbers.items() if number)
    found = f"{errors.persons.count('found')} of {len(errors.persons)} people found"
    return f"{found}; detections: {wrong}" if wrong else found


def _drawn(image: RgbImage, matches: ImageMatches, skeleton: Skeleton) -> dict[str, RgbImage]:
    """Prediction and truth, each under its caption."""
    factor = PICTURE_SIDE / max(image.shape[:2])
    canvas = resized(image, factor)

    def poses(people: Sequence[Mapping]) -> np.ndarray:
        keypoints = np.array([p["keypoints"] for p in people], float)
        keypoints = keypoints.reshape(-1, skeleton.num_keypoints, 3)
        keypoints = keypoints.astype(float)
        keypoints[..., :2] = scaled_points(keypoints[..., :2], factor)
        return keypoints

    found, truth = poses(matches.detections), poses(matches.persons)
    scores = np.array([detection["score"] for detection in matches.detections])
    prediction = visualize.draw_people(
        canvas, found[..., :2], found[..., 2], scores, skeleton, min_long_side=0
    )
    return {
        "prediction": prediction,
        "truth": visualize.draw_truth(canvas, truth, skeleton, min_long_side=0),
    }
