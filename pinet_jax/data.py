"""What flows between the pipeline and the loops: batches, and where they come from.

A training batch is a dict of arrays with a leading axis of B images of side S, P places for
persons of K keypoints, and maps of side S / 4:

    image        uint8    [B, S, S, 3]      RGB
    keypoints    float32  [B, P, K, 3]      x, y in input pixels, v in {0, 1, 2}; 0 on padding
    area         float32  [B, P]            config.targets.area, input pixels squared; 0 on padding
    annotation_area
                 float32  [B, P]            the annotation's own, image pixels squared; 0 on padding
    corners      float32  [B, P, 4, 2]      x, y of the box's four; a crop may turn it; 0 on padding
    region_mask  bool     [B, S/4, S/4]     False where the heatmap loss must not look
    image_id     int64    [B]               of the dataset; stays on the host
    num_dropped  int32    [B]               persons that found no place; stays on the host
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

AnyArray = jax.Array | np.ndarray  # on the device or fetched from it
RgbImage = UInt8[np.ndarray, "_ _ 3"]
Batch = dict[str, AnyArray]
Persons = dict[str, np.ndarray]

HOST_KEYS = ("image_id", "num_dropped")  # of a batch; the device does not need them


@dataclasses.dataclass(frozen=True)
class EvalBatch:
    """Images of one network size.

    Attributes:
        images: network inputs, RGB, one a scale of config.eval.scales.
        to_image: from pixels of the scale-1 network input to image pixels.
        image_id: of the dataset.
        valid: False where an image only fills the batch up.
    """

    images: tuple[UInt8[np.ndarray, "b _ _ 3"], ...]
    to_image: Float[np.ndarray, "b 2 3"]
    image_id: Int[np.ndarray, " b"]
    valid: Bool[np.ndarray, " b"]


@runtime_checkable
class Data(Protocol):
    """The data of a run; `input_pipeline.source.Source` makes it of a config.

    Nothing is read before it is asked for. Of several processes each gets its share of
    the batches, and all get as many.

    Attributes:
        eval_name: dataset and split that are evaluated, for people to read.
    """

    eval_name: str

    def examples_per_epoch(self) -> int:
        """Training images; of an endless stream a nominal number."""

    def train_batches(self, start_step: int) -> Iterator[Batch]:
        """Endless training batches from `start_step` on."""

    def eval_batches(self) -> Iterator[EvalBatch]:
        """Every image of the evaluated split once."""

    def num_eval_images(self) -> int:
        """How many those are, over all processes."""

    def eval_annotations(self) -> pathlib.Path | None:
        """Their ground truth, a COCO keypoint file; None if only the publisher has it."""

    def eval_ids_with_people(self) -> list[int]:
        """Ids of those with a labelled keypoint, rising."""

    def load_eval_images(self, image_ids: Sequence[int]) -> list[tuple[RgbImage, Persons]]:
        """Some of them as they are, each with its labelled persons.

        Persons are keypoints float32 [n, K, 3], bbox float32 [n, 4] (x, y, width, height),
        area float32 [n] and id int64 [n], in image pixels.
        """
