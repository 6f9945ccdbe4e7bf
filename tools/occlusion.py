"""Counts how often each body partition leaves a part to see, as the paper's Fig. 3(b) does.

    tools/occlusion.py ANNOTATIONS.json --config configs/NAME.py --out FILE.png

ANNOTATIONS.json is in COCO's keypoint format; the config says which skeleton it has, and its
partitions are compared. Prints, in percent: persons with at least one part wholly visible, seen
keypoints of a part, and how many parts are wholly visible, partly, hidden or not labelled at
all, as docs/tools.md defines it. FILE.png shows the same as bars.
"""

import pathlib
import sys

from absl import flags

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from pinet_jax import program, skeletons, visualize
from pinet_jax.errors import UserError
from pinet_jax.evaluation import occlusion
from pinet_jax.runtime import files

OUT = flags.DEFINE_string("out", None, "PNG file to write.")


def main(arguments: list[str]) -> None:
    """Runs the program."""
    if len(arguments) != 2 or not OUT.value:
        raise UserError("Give one annotation file, and --out: see occlusion.py --help.")
    path, out = pathlib.Path(arguments[1]), pathlib.Path(OUT.value).expanduser()
    skeleton = skeletons.of(program.config_from_flags())
    visibility = occlusion.read_visibility(path, skeleton)
    statistics = occlusion.of_partitions(visibility, skeleton)
    people = "1 person" if len(visibility) == 1 else f"{len(visibility):,} persons"
    files.make_folder(out.parent)
    visualize.save_png(occlusion.draw(statistics, f"{path.name}: {people}"), out)
    print(f"{path.name}: {people}, partitions of the skeleton '{skeleton.name}'; in %\n")
    print(occlusion.table(statistics))
    print(f"\nwrote {out}")


if __name__ == "__main__":
    program.run(main)
