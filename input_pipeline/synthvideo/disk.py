"""Synthetic videos on disk: frames as JPEG, annotations in the PoseTrack format.

OUT/frames/KIND_00/000000.jpg
OUT/annotations/KIND_00.json
"""

import json
import pathlib

from ml_collections import ConfigDict
from PIL import Image

from input_pipeline.synthvideo import render, truth
from input_pipeline.synthvideo.kinds import KINDS
from input_pipeline.synthvideo.render import Frames
from pinet_jax.runtime import files
from pinet_jax.runtime.progress import Progress

JPEG_QUALITY = 95


def write(config: ConfigDict, out: pathlib.Path, split: str, kind: str) -> list[Frames]:
    """Renders config.synthvideo.num_videos videos of a kind into a folder; those videos.

    Raises:
        UserError: no such videos, or a folder that cannot be written to.
    """
    render.check(config, kind, split)
    frames_folder, annotations = (files.make_folder(out / n) for n in ("frames", "annotations"))
    count, written = config.synthvideo.num_videos, []
    with Progress(count, f"render {kind}") as progress:
        for number, video in enumerate(render.videos(config, kind, split, count)):
            name = f"{kind}_{number:02d}"
            paths = _write_frames(video, frames_folder / name)
            content = truth.annotations(video, KINDS[kind].min_seen, paths)
            files.write_text(annotations / f"{name}.json", json.dumps(content))
            written.append(video)
            progress.update()
    return written


def _write_frames(video: Frames, folder: pathlib.Path) -> list[str]:
    """Writes a video's frames; their names as annotations have them."""
    files.make_folder(folder)
    names = [f"{number:06d}.jpg" for number in range(len(video.images))]
    for name, image in zip(names, video.images, strict=True):
        with files.replacing(folder / name) as path:
            Image.fromarray(image).save(path, quality=JPEG_QUALITY)
    return [f"frames/{folder.name}/{name}" for name in names]
