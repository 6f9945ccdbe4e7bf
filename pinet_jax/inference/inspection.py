"""What stands behind the people found in one image: score maps, proposals, groups."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8
from ml_collections import ConfigDict

from pinet_jax import methods
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.inference.fusion import People
from pinet_jax.inference.network_input import prepare
from pinet_jax.inference.predict import join_people


@dataclasses.dataclass(frozen=True)
class Inspection:
    """One image's prediction, opened up; NumPy arrays, S parts, K keypoints.

    Attributes:
        keypoint_heatmaps: H of every scale, averaged over the views of the flip test.
        part_heatmaps: P, likewise.
        map_to_image: of every scale, affine maps from heatmap pixels to image pixels.
        candidates: the method's: poses as proposed and as refined, in image pixels.
        person: index in `people` of the person that a candidate became part of.
        people: as `Predictor` finds them.
    """

    keypoint_heatmaps: tuple[Float[np.ndarray, "_ _ k"], ...]
    part_heatmaps: tuple[Float[np.ndarray, "_ _ s"], ...]
    map_to_image: tuple[Float[np.ndarray, "2 3"], ...]
    candidates: Any
    person: Int[np.ndarray, " n"]
    people: People


class Inspector:
    """Predicts as `Predictor` does, an image at a time, and keeps everything.

    Args:
        config: describes the model and, under `eval`, the test procedure.
        variables: {"params", "batch_stats"} of that model.
    """

    def __init__(self, config: ConfigDict, variables: Mapping[str, Any]):
        self.config = config
        self._variables = jax.device_put(dict(variables))
        method = methods.of(config)
        model = method.build(config)

        @jax.jit
        def run(variables, images, to_image):
            seen = method.inspect(model, variables, images, to_image, config)
            return seen, *join_people(seen.candidates, variables, config)

        self._run = run

    def __call__(self, image: UInt8[np.ndarray, "_ _ 3"]) -> Inspection:
        """Everything about one RGB image."""
        settings = self.config.eval
        seen = prepare(image, settings.input_size, settings.scales, settings.square)
        images = tuple(view[None] for view in seen.images)
        outputs = self._run(self._variables, images, seen.to_image[None])
        evidence, people, person = jax.device_get(jax.tree.map(lambda x: x[0], outputs))
        found = evidence.candidates
        return Inspection(
            evidence.keypoint_heatmaps,
            evidence.part_heatmaps,
            tuple(_map_to_image(seen.to_image, scale) for scale in settings.scales),
            jax.tree.map(lambda x: x[found.valid], found),
            person[found.valid],
            jax.tree.map(lambda x: x[people.valid], people),
        )


def _map_to_image(to_image: Float[np.ndarray, "2 3"], scale: float) -> Float[np.ndarray, "2 3"]:
    return to_image * np.array([HEATMAP_STRIDE / scale, HEATMAP_STRIDE / scale, 1])
