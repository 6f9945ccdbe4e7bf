"""An animated picture of tracking: a synthetic video, its people with numbers and trails.

    tools/tracking_picture.py --out FILE.gif [--kind crossing --number 0]
        [--config.tracking.method=correspondences]

People come from the simulated detector of tools/tracking_study.py.
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict
from PIL import Image

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from input_pipeline.synthvideo import detector, render
from input_pipeline.synthvideo.kinds import KINDS
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

SIDE = 360  # pixels
COLORS = 48
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
        pictures.append(visualize.draw_tracks(image, *poses, trails, COCO, min_long_side=SIDE))
    return pictures


def save_gif(pictures: Sequence[RgbImage], path: pathlib.Path) -> None:
    """Writes an endless animation in the colours of its middle frame."""
    images = [Image.fromarray(picture) for picture in pictures]
    palette = images[len(images) // 2].quantize(COLORS)
    small = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    small[0].save(
        path, format="GIF", save_all=True, append_images=small[1:], duration=MILLISECONDS, loop=0
    )


if __name__ == "__main__":
    program.run(main, known_flags_only=True)
