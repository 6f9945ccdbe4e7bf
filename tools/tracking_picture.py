"""An animated picture of tracking: a synthetic video, its people with numbers and trails.

    tools/tracking_picture.py --out FILE.gif [--kind crossing --number 0]
        [--config.tracking.method=correspondences]

People come from the simulated detector of tools/tracking_study.py.
"""

import pathlib
import sys
from collections.abc import Sequence

import cv2
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from PIL import Image

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from input_pipeline.synthvideo import detector, render
from input_pipeline.synthvideo.kinds import KINDS, MOST_PEOPLE
from pinet_jax import program, visualize
from pinet_jax.config import load_config
from pinet_jax.data import RgbImage
from pinet_jax.errors import UserError
from pinet_jax.runtime import files
from pinet_jax.skeletons import COCO
from pinet_jax.tracking import methods
from pinet_jax.tracking.tracker import follow

OUT = flags.DEFINE_string("out", None, "GIF file to write.")
KIND = flags.DEFINE_string("kind", "crossing", "Kind of the video.")
NUMBER = flags.DEFINE_integer("number", 0, "Number of the held-out video.", lower_bound=0)

SIDE = 320  # pixels
COLORS = 96
SMOOTHING = 5, 30.0, 5.0  # of the sensor's noise, which a GIF cannot pack
MILLISECONDS = 80  # a frame


def main(arguments: list[str]) -> None:
    """Runs the program."""
    config = load_config("base")
    rest = program.override(config, arguments)[1:]
    if rest or not OUT.value:
        raise UserError("Give --out=FILE.gif and no other file: see tracking_picture.py --help.")
    program.enable_compilation_cache(config)
    pictures = draw(config)
    with files.replacing(pathlib.Path(OUT.value).expanduser()) as path:
        save_gif(pictures, path)
    print(f"wrote {OUT.value}: {len(pictures)} frames")


def draw(config: ConfigDict) -> list[RgbImage]:
    """The frames of the video with their people."""
    kind, number = KIND.value, NUMBER.value
    render.check(config, kind, "val")
    (video,) = render.videos(config, kind, "val", 1, start=number)
    seed = config.seed, list(KINDS).index(kind), number
    found = detector.detect(video, KINDS[kind].min_seen, seed)
    linker = methods.build(config, None)
    trails, pictures = {}, []
    for image, people in follow(zip(video.images, found, strict=True), linker, config):
        poses = people.ids, people.keypoints, people.keypoint_scores
        trails = visualize.longer_trails(trails, *poses)
        smooth = cv2.bilateralFilter(image, *SMOOTHING)
        pictures.append(visualize.draw_tracks(smooth, *poses, trails, COCO, min_long_side=SIDE))
    return pictures


def save_gif(pictures: Sequence[RgbImage], path: pathlib.Path) -> None:
    """Writes an endless animation in the colours of its middle frame and of people."""
    images = [Image.fromarray(picture) for picture in pictures]
    middle = pictures[len(pictures) // 2]
    people = [visualize.person_color(index) for index in range(MOST_PEOPLE)]
    swatches = np.repeat(np.array(people, np.uint8), len(middle) // len(people), 0)
    swatches = np.broadcast_to(swatches[:, None], (len(swatches), middle.shape[1], 3))
    palette = Image.fromarray(np.concatenate([middle, swatches])).quantize(COLORS)
    small = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    small[0].save(
        path, format="GIF", save_all=True, append_images=small[1:], duration=MILLISECONDS, loop=0
    )


if __name__ == "__main__":
    program.run(main, known_flags_only=True)
