"""The report's sections, from the matches of an evaluation."""

from collections.abc import Mapping, Sequence

import numpy as np

from pinet_jax import visualize
from pinet_jax.evaluation.report import curves, page, worst
from pinet_jax.evaluation.report.breakdown import (
    DETECTION_KINDS,
    FOUND,
    IGNORED,
    KEYPOINT_KINDS,
    PERSON_KINDS,
    Breakdown,
    Outcome,
    break_down,
    outcome,
)
from pinet_jax.evaluation.report.worst import LoadImages
from pinet_jax.evaluation.scoring import Scorer, percent
from pinet_jax.runtime import files
from pinet_jax.skeletons import Skeleton

CROWDING_DPI = 110  # of the PNG of `crowding.plot`

_PERSONS = (
    "A person is found by a detection matched with it at OKS 0.5, poorly found where the best "
    "detection nearest to it reaches 0.1, and else missed."
)
_DETECTIONS = (
    "A detection is right if it is matched with a person at OKS 0.5; poor if it is the only one "
    "of its nearest person, at 0.1 to 0.5; a duplicate if that person has a better one; false if "
    "nobody is there (OKS below 0.1 with everybody). Those of people who need not be found "
    "are not counted."
)
_KEYPOINTS = (
    "Labelled keypoints of the persons found and poorly found, by their own OKS term (after "
    "Ronchi and Perona, ICCV 2017). Good: 0.85 or more; jitter: 0.5 or more; inverted: near the "
    "mirror image on the same person; swapped: near that keypoint, or its mirror image, of "
    "another person; missed: near none of these."
)
_CALIBRATION = (
    "Of the detections in each interval of scores, the share that is right at OKS 0.5, against "
    "their mean score. On the dashed line a score would be a probability; only the order of the "
    "scores counts for AP."
)
_CROWDING = (
    "A person's box IoU is that with the nearest other person in the image; AP is that of the "
    "persons in each interval."
)


def write_report(
    path: files.Path,
    scorer: Scorer,
    skeleton: Skeleton,
    metrics: Mapping[str, float],
    crowding: bytes,
    about: Mapping[str, str],
    config: str,
    load_images: LoadImages | None = None,
) -> None:
    """Writes the report of an evaluation.

    Args:
        path: of the HTML file.
        scorer: the matches.
        skeleton: of the keypoints.
        metrics: of `evaluation.metrics`.
        crowding: the PNG of `crowding.plot`.
        about: what was evaluated, names and what they are; the first is the title.
        config: all of it, as text.
        load_images: the pictures by their ids; without it none are shown.

    Raises:
        UserError: the file cannot be written.
    """
    images = list(scorer.images(FOUND))
    outcomes = [outcome(image, skeleton) for image in images]
    shown = [outcome(image, skeleton, visualize.MIN_SCORE) for image in images]
    blocks = [
        page.facts(about),
        *_metrics(metrics),
        *_curves(scorer, outcomes),
        *_crowding(crowding),
        *_calibration(outcomes),
        *_errors(outcomes, shown, skeleton),
        *worst.blocks(images, shown, skeleton, load_images),
        page.heading("Config"),
        page.note(
            "Of a file of results, only the skeleton, eval.max_detections and eval.iou_intervals "
            "were used."
        ),
        page.details("all fields", config),
    ]
    title = next(iter(about.values()))
    files.write_text(path, page.page(f"Evaluation of {title}", blocks))


def _metrics(metrics: Mapping[str, float]) -> list[str]:
    cells = [percent(value) for value in metrics.values()]
    explained = "Percent; - where there is nobody to find."
    return [page.heading("Metrics"), page.table(list(metrics), [cells]), page.note(explained)]


def _curves(scorer: Scorer, outcomes: Sequence[Outcome]) -> list[str]:
    found = scorer.precision_curves()
    oks = np.concatenate([np.zeros(0), *(outcome.oks for outcome in outcomes)])
    return [
        page.heading("Precision and recall"),
        _diagram(curves.precision_recall(found), "precision against recall by OKS threshold"),
        page.heading("OKS"),
        page.note(
            "Left: AP at each OKS threshold; the AP of the table is their mean. Right: OKS of the "
            "detections with their persons, grey where it does not count as found."
        ),
        _diagram(curves.oks_curve(found, oks), "AP against OKS threshold; OKS of detections"),
    ]


def _crowding(png: bytes) -> list[str]:
    diagram = page.diagram(png, "AP by crowding", dpi=CROWDING_DPI)
    return [page.heading("Crowding"), page.note(_CROWDING), diagram]


def _calibration(outcomes: Sequence[Outcome]) -> list[str]:
    counted = [
        (score, kind == "right")
        for outcome in outcomes
        for score, kind in zip(outcome.scores, outcome.detections, strict=True)
        if kind != IGNORED
    ]
    scores, right = np.reshape(np.array(counted, float), (-1, 2)).T
    bins = curves.calibrate(scores, right > 0)
    rows = [
        (
            f"{part.low:.2f} to {part.high:.2f}",
            str(part.detections),
            f"{part.mean_score:.3f}" if part.detections else "-",
            f"{100 * part.right:.1f}" if part.detections else "-",
        )
        for part in bins
    ]
    return [
        page.heading("Score calibration"),
        page.note(_CALIBRATION),
        _diagram(curves.calibration(bins), "share of right detections against their score"),
        page.table(("score", "detections", "mean score", "% right"), rows),
    ]


def _errors(outcomes: Sequence[Outcome], shown: Sequence[Outcome], skeleton: Skeleton) -> list[str]:
    every = break_down(outcomes, skeleton.num_keypoints)
    columns = (every, break_down(shown, skeleton.num_keypoints))
    header = ("all", "%", f"score ≥ {visualize.MIN_SCORE:g}", "%")
    return [
        page.heading("Errors"),
        page.note(
            "With all detections that are scored, and with those of a higher score alone, which "
            "are drawn below."
        ),
        _kinds(("persons", *header), PERSON_KINDS, [column.persons for column in columns]),
        page.note(_PERSONS),
        _kinds(("detections", *header), DETECTION_KINDS, [column.detections for column in columns]),
        page.note(_DETECTIONS),
        _kinds(
            ("keypoints", *header),
            KEYPOINT_KINDS,
            [column.keypoints.sum(0).tolist() for column in columns],
        ),
        page.note(_KEYPOINTS),
        _diagram(curves.keypoint_errors(every.keypoints, skeleton.keypoints), "errors by keypoint"),
        _by_keypoint(every, skeleton),
    ]


def _kinds(header: Sequence[str], kinds: Sequence[str], columns: Sequence[Sequence[int]]) -> str:
    """Numbers and shares of each kind; a column of both for each of `columns`."""
    rows = []
    for index, kind in enumerate(kinds):
        cells = [(str(counts[index]), _share(counts[index], sum(counts))) for counts in columns]
        rows.append((kind, *(text for cell in cells for text in cell)))
    return page.table(header, rows)


def _by_keypoint(errors: Breakdown, skeleton: Skeleton) -> str:
    rows = [
        (
            name.replace("_", " "),
            str(sum(counts)),
            *(_share(count, sum(counts)) for count in counts),
        )
        for name, counts in zip(skeleton.keypoints, errors.keypoints.tolist(), strict=True)
    ]
    return page.table(("keypoint", "labelled", *(f"% {kind}" for kind in KEYPOINT_KINDS)), rows)


def _diagram(png: bytes, alt: str) -> str:
    return page.diagram(png, alt, dpi=curves.DPI)


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f}" if total else "-"
