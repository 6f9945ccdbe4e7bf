"""Finding people in images of one size, and drawing them: what a run does to every image."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from pinet_jax import methods, skeletons, visualize
from pinet_jax.data import RgbImage
from pinet_jax.errors import UserError
from pinet_jax.inference.fusion import People
from pinet_jax.inference.inspection import Inspector
from pinet_jax.inference.network_input import eval_size
from pinet_jax.inference.predictor import Predictor
from pinet_jax.tracking.frames import Tracked

WIDE = 4  # longer network inputs, in short sides, go alone: they need the memory of a batch
WIDEST = 64  # longer ones are refused


class Finder:
    """Finds the people in images of one size of the network's input.

    Args:
        config: of the model.
        variables: of the model.

    Attributes:
        config: as given.
        variables: as given.
    """

    def __init__(self, config: ConfigDict, variables: Mapping[str, Any]):
        self.config, self.variables = config, variables

    def __call__(self, images: Sequence[RgbImage]) -> list[People]:
        """The people of at most `batch_size` images; UserError if memory does not suffice."""
        height, width = images[0].shape[:2]
        alone = self.batch_size(height, width) == 1
        with _memory_errors_as_user_errors(height, width):
            return (self._alone if alone else self._together)(images)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the network's input; UserError for images too long for it."""
        size = eval_size(height, width, self.config)
        if max(size) > WIDEST * min(size):
            raise UserError(
                f"with {width}x{height} pixels it is more than {WIDEST} times as long as wide: "
                "cut it into pieces or set config.eval.square"
            )
        return size

    def batch_size(self, height: int, width: int) -> int:
        """How many images of this size go together: one where it is much longer than wide."""
        size = self.input_size(height, width)
        return 1 if max(size) > WIDE * min(size) else self.config.eval.batch_size

    @functools.cached_property
    def _together(self) -> Predictor:
        return Predictor(self.config, self.variables)

    @functools.cached_property
    def _alone(self) -> Predictor:
        if self.config.eval.batch_size == 1:
            return self._together
        config = self.config.copy_and_resolve_references()
        config.eval.batch_size = 1
        return Predictor(config, self.variables)


class Artist:
    """Draws the people of an image, and on demand how they were found.

    Args:
        config: of the model.
        variables: of the model.
        min_score: people of a lower score are not drawn.
        min_keypoint_score: keypoints of a lower score are not drawn.
        parts: draw `visualize.parts_page` too.
        heatmaps: draw `visualize.heatmaps_page` too.

    Attributes:
        kinds: of pictures drawn: "people", "parts", "heatmaps".
    """

    def __init__(
        self,
        config: ConfigDict,
        variables: Mapping[str, Any],
        min_score: float,
        min_keypoint_score: float,
        parts: bool,
        heatmaps: bool,
    ):
        self._skeleton = skeletons.of(config)
        self._parts = methods.of(config).parts(config)
        self._least = min_score, min_keypoint_score
        self._inspector = Inspector(config, variables) if parts or heatmaps else None
        wanted = {"people": True, "parts": parts, "heatmaps": heatmaps}
        self.kinds = [kind for kind in wanted if wanted[kind]]

    def __call__(
        self,
        image: RgbImage,
        people: People | Tracked,
        trails: visualize.Trails | None = None,
    ) -> dict[str, RgbImage]:
        """A picture of every kind; their sizes depend on the image's alone.

        Args:
            image: RGB.
            people: to be drawn; those with identities whatever their score.
            trails: of people with identities.
        """
        pictures = {"people": self._people(image, people, trails)}
        if self._inspector is not None:
            with _memory_errors_as_user_errors(*image.shape[:2]):
                evidence = image, self._inspector(image), self._parts, self._skeleton
            if "parts" in self.kinds:
                pictures["parts"] = visualize.parts_page(*evidence, *self._least)
            if "heatmaps" in self.kinds:
                pictures["heatmaps"] = visualize.heatmaps_page(*evidence)
        return pictures

    def _people(
        self, image: RgbImage, people: People | Tracked, trails: visualize.Trails | None
    ) -> RgbImage:
        min_score, min_keypoint_score = self._least
        poses = people.keypoints, people.keypoint_scores
        if trails is not None:
            drawn = people.ids, *poses, trails
            return visualize.draw_tracks(image, *drawn, self._skeleton, min_keypoint_score)
        shown = np.asarray(people.scores) >= min_score
        found = (array[shown] for array in (*poses, people.scores))
        return visualize.draw_people(image, *found, self._skeleton, min_keypoint_score)


@contextlib.contextmanager
def _memory_errors_as_user_errors(height: int, width: int) -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"images of {width}x{height} pixels need more memory than there is: lower "
            "config.eval.input_size or config.eval.batch_size"
        ) from None
