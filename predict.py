"""Finds the people in images, videos and webcams with a trained model, and draws them.

    predict.py --checkpoint WORKDIR FILE_OR_FOLDER_OR_GLOB... --out DIR [--config.a.b=c ...]
    predict.py --checkpoint WORKDIR --webcam 0 --out DIR

Writes for each image DIR/NAME.png, for each video DIR/NAME.mp4, and DIR/predictions.json in
the COCO format; docs/predict.md describes every option and file. With --track people keep their
identity through a video, and DIR/NAME_tracks.json says who is where (docs/tracking.md). WORKDIR
may also be a file of released weights of any of the methods. The checkpoint carries its config,
and for a file it is the shipped one that fits; `--config.eval.flip=False` changes a field of it.
Exit code 1 if some files could not be read, 2 for other mistakes.
"""

import contextlib
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from pinet_jax import program, skeletons, visualize
from pinet_jax.config import with_fields
from pinet_jax.errors import UserError
from pinet_jax.media import frame_folders
from pinet_jax.media import videos as video_files
from pinet_jax.media.finder import Artist, Finder
from pinet_jax.media.images import SUFFIXES, find_images
from pinet_jax.media.predictions import PredictionFiles
from pinet_jax.media.run import Run, picture_names
from pinet_jax.media.track_files import FORMATS
from pinet_jax.media.tracking import Tracking
from pinet_jax.runtime import files
from pinet_jax.weights import reading

CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Workdir of train.py, one checkpoint of it, or a file of released weights."
)
OUT = flags.DEFINE_string("out", None, "Folder for the pictures, videos and predictions.")
WEBCAM = flags.DEFINE_integer(
    "webcam", None, "Number of a webcam to read, 0 the first.", lower_bound=0
)
MAX_FRAMES = flags.DEFINE_integer(
    "max_frames", None, "Frames read of each video; all unless set.", lower_bound=1
)
MIN_SCORE = flags.DEFINE_float(
    "min_score", visualize.MIN_SCORE, "People of a lower score are not drawn."
)
MIN_KEYPOINT_SCORE = flags.DEFINE_float(
    "min_keypoint_score",
    visualize.MIN_KEYPOINT_SCORE,
    "Keypoints of a lower score are not drawn.",
)
TRACK = flags.DEFINE_bool(
    "track", False, "Keep people's identities through videos; a folder of frames is one too."
)
TRACK_FORMAT = flags.DEFINE_enum(
    "track_format", "model", FORMATS, "Joints in NAME_tracks.json: the model's, or PoseTrack's 17."
)
CSV = flags.DEFINE_bool("csv", False, "Also write predictions.csv, a row a person.")
SHOW_PARTS = flags.DEFINE_bool(
    "show_parts", False, "Also draw what each part proposed and how it was refined, in DIR/parts."
)
HEATMAPS = flags.DEFINE_bool("heatmaps", False, "Also draw the score maps, in DIR/heatmaps.")


def main(arguments: list[str]) -> int:
    """Runs the program; its exit code."""
    for flag in (CHECKPOINT, OUT):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing: see predict.py --help.")
    if files.is_cloud(OUT.value):
        raise UserError(f"--out: '{OUT.value}' is a URL: name a folder of this computer.")
    config, variables = reading.load_variables(CHECKPOINT.value)
    named = program.override(config, arguments)[1:]
    program.enable_compilation_cache(config)
    if WEBCAM.value is not None:
        failures = predict_webcam(config, variables, named)
    elif TRACK.value:
        failures = predict_files(config, variables, frame_folders.find_videos(named))
    else:
        paths = find_images(named, SUFFIXES + video_files.SUFFIXES)
        failures = predict_files(config, variables, paths)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def predict_files(
    config: ConfigDict, variables: Mapping[str, Any], paths: list[pathlib.Path]
) -> list[UserError]:
    """Predicts images and videos; what could not be, and why."""
    few = len(paths) < config.eval.batch_size
    if few and not any(path.is_dir() or video_files.is_video(path) for path in paths):
        config = with_fields(config, {"eval.batch_size": len(paths)})  # no work on padding
    with start(config, variables, paths) as run:
        run.predict_files(paths, MAX_FRAMES.value)
    return run.failures


def predict_webcam(
    config: ConfigDict, variables: Mapping[str, Any], named: list[str]
) -> list[UserError]:
    """Predicts what the webcam sees; what could not be, and why."""
    if named:
        raise UserError("--webcam: give either a webcam or files.")
    config = with_fields(config, {"eval.batch_size": 1})  # a frame is predicted when it comes
    with (
        video_files.open_webcam(WEBCAM.value) as webcam,
        start(config, variables, [webcam.path]) as run,
    ):
        run.predict_video(webcam, MAX_FRAMES.value)
    return run.failures


@contextlib.contextmanager
def start(
    config: ConfigDict, variables: Mapping[str, Any], paths: list[pathlib.Path]
) -> Iterator[Run]:
    """A run as the flags want it; its predictions are on disk afterwards."""
    out = files.make_folder(OUT.value)
    names = picture_names(paths, out)
    artist = Artist(
        config,
        variables,
        MIN_SCORE.value,
        MIN_KEYPOINT_SCORE.value,
        parts=SHOW_PARTS.value,
        heatmaps=HEATMAPS.value,
    )
    find = Finder(config, variables)
    tracking = Tracking(config, find, TRACK_FORMAT.value) if TRACK.value else None
    if tracking and config.tracking.merge:
        print("config.tracking.merge: each video is held in memory whole.", file=sys.stderr)
    most, skeleton = config.eval.max_detections, skeletons.of(config)
    with PredictionFiles(
        out, skeleton, most, with_csv=CSV.value, with_tracks=TRACK.value
    ) as predictions:
        yield Run(find, artist, predictions, out, names, tracking)


if __name__ == "__main__":
    program.run(main, known_flags_only=True)
