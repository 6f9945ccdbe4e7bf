"""Whole protocols: the videos of a benchmark in, tables of scores out (TRACKING, section 5)."""

from collections.abc import Mapping, Sequence

import numpy as np

from pinet_jax.tracking.scoring import clear, hota, identity
from pinet_jax.tracking.scoring.average_precision import average_precision
from pinet_jax.tracking.scoring.pairs import Both, Pairs, joint_pairs, people_pairs

VARIANTS = ("official", "corrected")
UNUSED = ("left_ear", "right_ear")  # of PoseTrack's 17 names: never annotated
LEAST_OKS = 0.5  # of a pair in CLEAR and Identity
TOTAL = "total"
HOTA_OF_PEOPLE = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA")

Videos = Mapping[str, Sequence[Both]]
Scores = dict[str, float]


def used_joints(names: Sequence[str]) -> dict[str, int]:
    """The joints that PoseTrack scores, with their place among the names."""
    return {name: k for k, name in enumerate(names) if name not in UNUSED}


def posetrack_ap(videos: Videos, names: Sequence[str]) -> dict[str, Scores]:
    """AP, precision and recall of joints, percent: {"ap": {joint or "total": value}, ...}."""
    every = [frame for frames in videos.values() for frame in frames]
    return {
        score: _with_mean({name: float(values[k]) for name, k in used_joints(names).items()})
        for score, values in average_precision(every).items()
    }


def posetrack18(videos: Videos, names: Sequence[str], variant: str) -> dict[str, dict]:
    """MOTA, MOTP, precision and recall of joints in percent, and the counts behind them.

    Args:
        videos: frames of each.
        names: of the joints.
        variant: "official": the last labelled frame of a video is not scored, and a frame
            where one side has nobody counts as one object, one miss and one false positive of
            every joint; or "corrected".
    """
    joints = used_joints(names)
    counts = {name: _clear_of_joint(videos, k, variant == "official") for name, k in joints.items()}
    scores = {name: clear.joint_scores(values) for name, values in counts.items()}
    by_score = {
        score: _with_mean({name: scores[name][score] for name in joints})
        for score in ("mota", "motp", "precision", "recall")
    }
    fields = (*clear.COUNTS, "distance")
    return by_score | {
        "counts": {field: {name: counts[name][field] for name in joints} for field in fields}
    }


def _clear_of_joint(videos: Videos, joint: int, official: bool) -> Scores:
    total = dict.fromkeys((*clear.COUNTS, "distance"), 0.0)
    for frames in videos.values():
        scored = frames[:-1] if official else frames
        emptied = [official and not (len(f.truth.ids) and len(f.found.ids)) for f in scored]
        counts = clear.joint_counts(zip(joint_pairs(scored, joint), emptied, strict=True))
        total = {name: total[name] + counts[name] for name in total}
    return total


def posetrack21(videos: Videos, names: Sequence[str], variant: str) -> dict[str, dict]:
    """HOTA and its companions of joints: {score: {joint or "total": mean over thresholds}}.

    Also "by_alpha" of the total, "by_video", and the sums of TP, FN and FP over thresholds.

    Args:
        videos: frames of each.
        names: of the joints.
        variant: "official": a frame without predictions adds all labelled joints of the
            video to FN, one without truth all predicted ones to FP; or "corrected".
    """
    joints = used_joints(names)
    parts = {
        video: {
            name: _hota_of_joint(frames, k, variant == "official") for name, k in joints.items()
        }
        for video, frames in videos.items()
    }
    total = {name: hota.added([parts[video][name] for video in videos]) for name in joints}
    total[TOTAL] = hota.added([hota.over_joints(list(p.values())) for p in parts.values()])
    scores = {name: hota.hota_scores(counts) for name, counts in total.items()}
    means = {
        score: {name: float(values[score].mean()) for name, values in scores.items()}
        for score in scores[TOTAL]
    }
    sums = {
        field: {name: float(counts[field].sum()) for name, counts in total.items()}
        for field in ("TP", "FN", "FP")
    }
    return means | {
        "sums": sums,
        "by_alpha": {name: values.tolist() for name, values in scores[TOTAL].items()},
        "by_video": {video: _of_video(part) for video, part in parts.items()},
    }


def _hota_of_joint(frames: Sequence[Both], joint: int, official: bool) -> hota.ByAlpha:
    pairs = [hota.joint_similarity(pairs) for pairs in joint_pairs(frames, joint)]
    lost = [(not len(f.truth.ids), not len(f.found.ids)) for f in frames] if official else ()
    return hota.hota_counts(pairs, aligned=False, lost=lost)


def _of_video(parts: Mapping[str, hota.ByAlpha]) -> Scores:
    """One video's scores, means over its joints."""
    joints = [hota.hota_scores(part) for part in parts.values()]
    return {name: float(np.mean([scores[name] for scores in joints])) for name in joints[0]}


def oks_protocol(videos: Videos, sigmas: Sequence[float]) -> dict[str, dict]:
    """CLEAR, Identity and HOTA of people by OKS: {"combined" or a video's name: scores}.

    Also "by_alpha", HOTA and its companions at each threshold.
    """
    pairs = {name: list(people_pairs(frames, sigmas)) for name, frames in videos.items()}
    counts = {name: _people_counts(frames) for name, frames in pairs.items()}
    alphas = {name: hota.hota_counts(frames, aligned=True) for name, frames in pairs.items()}
    together = {
        field: sum(part[field] for part in counts.values()) for field in next(iter(counts.values()))
    }
    added = hota.added(list(alphas.values()))
    return {
        "combined": _people_scores(together, added),
        "by_video": {name: _people_scores(counts[name], alphas[name]) for name in videos},
        "by_alpha": {name: hota.hota_scores(added)[name].tolist() for name in HOTA_OF_PEOPLE},
    }


def _people_counts(frames: Sequence[Pairs]) -> Scores:
    return clear.people_counts(frames, LEAST_OKS) | identity.identity_counts(frames, LEAST_OKS)


def _people_scores(counts: Scores, alphas: hota.ByAlpha) -> Scores:
    scores = hota.hota_scores(alphas)
    return {
        **clear.people_scores(counts),
        **identity.identity_scores(counts),
        **{name: float(scores[name].mean()) for name in HOTA_OF_PEOPLE},
        **{name: value for name, value in counts.items() if name != "similarity"},
    }


def _with_mean(values: Scores) -> Scores:
    """With the mean over joints that are labelled somewhere."""
    known = [value for value in values.values() if not np.isnan(value)]
    return values | {TOTAL: float(np.mean(known)) if known else float("nan")}
