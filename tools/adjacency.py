"""Draws the adjacency that the refinement learned, and how it changed during a training.

    tools/adjacency.py --checkpoint WORKDIR --out FILE.png
    tools/adjacency.py --checkpoint WORKDIR/checkpoints/1000 --checkpoint ... --out FILE.png

A workdir stands for all its checkpoints. Beside them stands the adjacency that training
starts from. Exit code 2 and one sentence for what is no checkpoint of such a model.
"""

import pathlib
import sys

import numpy as np
from absl import flags
from jaxtyping import Float
from ml_collections import ConfigDict

from pinet_jax.weights import reading

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from pinet_jax import program, skeletons, visualize
from pinet_jax.errors import UserError
from pinet_jax.methods.pinet.refinement import skeleton_adjacency

CHECKPOINTS = flags.DEFINE_multi_string(
    "checkpoint", [], "Workdir of train.py or one checkpoint of it; may be given several times."
)
OUT = flags.DEFINE_string("out", None, "The picture, a PNG.")


def main(arguments: list[str]) -> None:
    """Runs the program."""
    if len(arguments) > 1 or not CHECKPOINTS.value or not OUT.value:
        raise UserError("Give --checkpoint and --out: see adjacency.py --help.")
    folders = [folder for path in CHECKPOINTS.value for folder in steps(pathlib.Path(path))]
    config, adjacencies = read_all(folders)
    skeleton = skeletons.of(config)
    start = skeleton_adjacency(skeleton.limbs, skeleton.num_keypoints)
    titles = ["at the start", *(f"step {folder.name}" for folder in folders)]
    visualize.adjacency_plot([start, *adjacencies], titles, skeleton, OUT.value)
    for title, adjacency in zip(titles[1:], adjacencies, strict=True):
        print(f"{title}: largest change {np.abs(adjacency - start).max():.3f}")


def steps(path: pathlib.Path) -> list[pathlib.Path]:
    """A workdir's checkpoints by step; else the path itself."""
    found = [folder for folder in path.glob("checkpoints/*") if folder.name.isdigit()]
    return sorted(found, key=lambda folder: int(folder.name)) or [path]


def read_all(folders: list[pathlib.Path]) -> tuple[ConfigDict, list[Float[np.ndarray, "k k"]]]:
    """The config of the last checkpoint and the adjacency of each.

    Raises:
        UserError: one is no checkpoint, has no learned adjacency or another skeleton.
    """
    adjacencies = []
    for folder in folders:
        config, variables = reading.load_variables(folder)
        refiner = variables["params"].get("refiner", {})
        if "adjacency" not in refiner:
            raise UserError(
                f"The checkpoint '{folder}' has no learned adjacency: train with "
                "config.model.refinement=True and config.model.graph=dynamic."
            )
        adjacencies.append(np.asarray(refiner["adjacency"]))
        if adjacencies[-1].shape != adjacencies[0].shape:
            raise UserError(f"The checkpoint '{folder}' is of another skeleton than the first.")
    return config, adjacencies


if __name__ == "__main__":
    program.run(main)
