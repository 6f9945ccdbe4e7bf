"""Renders synthetic videos with exact identities, and tells how hard each kind is.

    tools/synthvideo.py --out DIR [--split val --kinds walk,crossing]
        [--config.synthvideo.frames=48]

Writes DIR/frames/KIND_00/000000.jpg ..., and DIR/annotations/KIND_00.json in the PoseTrack
format, for `eval.py --tracks`. The same --config.seed gives the same videos.
"""

import pathlib
import sys

from absl import flags

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from input_pipeline.synthvideo import disk, render
from input_pipeline.synthvideo.figures import figures
from input_pipeline.synthvideo.kinds import KINDS
from pinet_jax import program
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from pinet_jax.runtime import tables

OUT = flags.DEFINE_string("out", None, "Folder for frames and annotations.")
SPLIT = flags.DEFINE_enum("split", "val", render.SPLITS, "Held-out videos, or those to train on.")
WANTED = flags.DEFINE_list("kinds", list(KINDS), "Kinds of videos.")


def main(arguments: list[str]) -> None:
    """Runs the program."""
    if not OUT.value:
        raise UserError("Give --out=DIR: see synthvideo.py --help.")
    config = load_config("base")
    rest = program.override(config, arguments)[1:]
    if rest:
        raise UserError(f"'{rest[0]}': give flags only.")
    program.enable_compilation_cache(config)
    for kind in WANTED.value:
        render.check(config, kind, SPLIT.value)
    rows = [
        ["kind", "people", "OKS a frame later", "hidden and back", "frames hidden", "hidden joints"]
    ]
    for kind in WANTED.value:
        videos = disk.write(config, pathlib.Path(OUT.value).expanduser(), SPLIT.value, kind)
        known = figures(videos, KINDS[kind].min_seen)
        rows.append(
            [
                kind,
                f"{known.people:.1f}",
                f"{known.own_oks:.2f}",
                str(known.hidden_and_back),
                f"{known.gap:.1f}",
                f"{known.hidden_joints:.2f}",
            ]
        )
    print(tables.aligned(rows))
    print(f"wrote {OUT.value}")


if __name__ == "__main__":
    program.run(main, known_flags_only=True)
