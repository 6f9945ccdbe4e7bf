"""The scoring run: a folder of tracks against a folder of annotations."""

import datetime
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.runtime import files
from pinet_jax.runtime.progress import Progress
from pinet_jax.skeletons import Skeleton
from pinet_jax.tracking import posetrack
from pinet_jax.tracking.scoring import protocols, report, tables
from pinet_jax.tracking.scoring.pairs import scored_frames

ENDINGS = ("", "_tracks")  # of the names of files of tracks, behind the annotations' names


def score(
    tracks: str | os.PathLike,
    annotations: str | os.PathLike,
    out: str | os.PathLike | None = None,
    own: Skeleton | None = None,
) -> dict[str, Any]:
    """Scores every video, prints the tables and writes metrics.json and report.html.

    Annotations with PoseTrack's joints and boxes of heads are scored by PoseTrack's protocols
    too.

    Args:
        tracks: folder with a file NAME.json or NAME_tracks.json for each of `annotations`.
        annotations: folder of PoseTrack JSON files.
        out: folder for what is written; nothing is unless given.
        own: a skeleton beside the known ones.

    Returns:
        What metrics.json holds: "oks", and "posetrack_ap", "posetrack18", "posetrack21".

    Raises:
        UserError: files that are absent, damaged or do not fit together.
    """
    videos, names = {}, None
    paths = _paths(tracks, annotations)
    with Progress(len(paths), "read tracks") as progress:
        for truth_path, found_path in paths.items():
            truth = posetrack.read(truth_path)
            if names not in (None, truth.keypoints):
                raise UserError(f"'{truth_path}' has other keypoints than the files before it.")
            names = truth.keypoints
            videos[truth.name] = scored_frames(truth, posetrack.read(found_path))
            progress.update()
    if not any(videos.values()):
        raise UserError(
            f"--annotations: no frame in '{annotations}' is labelled: nothing to score."
        )
    skeleton = _skeleton(names, own, annotations)
    scores: dict[str, Any] = {"oks": protocols.oks_protocol(videos, skeleton.sigmas)}
    if skeleton == skeletons.POSETRACK and _have_heads(videos):
        scores |= _of_posetrack(videos, names)
    _print(scores)
    if out is not None:
        about = {
            "tracks": os.fspath(tracks),
            "annotations": os.fspath(annotations),
            "size": f"{len(videos)} videos, {sum(map(len, videos.values()))} scored frames",
            "skeleton": skeleton.name,
            "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        }
        folder = files.make_folder(out)
        files.write_text(folder / "metrics.json", json.dumps(_with_null(scores), indent=2) + "\n")
        report.write(folder / "report.html", scores, about)
    return scores


def _with_null(scores: Any) -> Any:
    """For JSON, which has no nan: null where nothing could be scored."""
    if isinstance(scores, Mapping):
        return {name: _with_null(value) for name, value in scores.items()}
    if isinstance(scores, list):
        return [_with_null(value) for value in scores]
    return None if scores != scores else scores


def _paths(
    tracks: str | os.PathLike, annotations: str | os.PathLike
) -> dict[pathlib.Path, pathlib.Path]:
    """The file of tracks for every one of annotations."""
    wanted, given = pathlib.Path(annotations).expanduser(), pathlib.Path(tracks).expanduser()
    truths = sorted(wanted.glob("*.json"))
    if not truths:
        raise UserError(f"--annotations: no JSON file in the folder '{wanted}'.")
    paths = {}
    for truth in truths:
        candidates = [given / f"{truth.stem}{ending}.json" for ending in ENDINGS]
        found = [path for path in candidates if path.is_file()]
        if not found:
            raise UserError(
                f"--tracks: '{given}' has no '{truth.stem}.json' for the annotations of that name: "
                "give a file for every video, also for those without people."
            )
        paths[truth] = found[0]
    return paths


def _skeleton(names: tuple[str, ...], own: Skeleton | None, where: str | os.PathLike) -> Skeleton:
    skeleton = own if own and own.keypoints == names else skeletons.named_keypoints(names)
    if skeleton is None:
        raise UserError(
            f"--annotations: the keypoints in '{where}' ({', '.join(names)}) are those of no known "
            "skeleton: give --config with the skeleton that is meant."
        )
    return skeleton


def _have_heads(videos: protocols.Videos) -> bool:
    """Whether the truth has a head's box anywhere; where one is missing then is told later."""
    heads = (frame.truth.head_boxes for frames in videos.values() for frame in frames)
    return any((boxes == boxes).any() for boxes in heads)  # nan is not itself


def _of_posetrack(videos: protocols.Videos, names: tuple[str, ...]) -> dict[str, Any]:
    def by_variant(protocol) -> dict[str, Any]:
        return {v: protocol(videos, names, v) for v in protocols.VARIANTS}

    return {
        "posetrack_ap": protocols.posetrack_ap(videos, names),
        "posetrack18": by_variant(protocols.posetrack18),
        "posetrack21": by_variant(protocols.posetrack21),
    }


def _print(scores: Mapping[str, Any]) -> None:
    if "posetrack18" in scores:
        print(f"joints, percent\n{tables.text(tables.joints(scores))}\n")
    print(f"people by OKS, percent\n{tables.text(tables.people(scores['oks']))}", flush=True)
