"""The door to the data: a config in, the data of a run out."""

import pathlib
from collections.abc import Iterator, Sequence

import jax
from ml_collections import ConfigDict

from pinet_jax.data import Batch, EvalBatch, Persons, RgbImage

STREAM = "synthcrowd_stream"
STREAM_ON_DISK = "synthcrowd"  # the same crowd, with held-out scenes


class Source:
    """The data that `config.dataset` names; fulfils `pinet_jax.data.Data`.

    TensorFlow is imported when a dataset on disk is first asked for: the stream needs none.
    Methods raise UserError for data that is not there or not right.

    Args:
        config: dataset, augmentation, synthcrowd, train, eval and seed are read.
    """

    def __init__(self, config: ConfigDict):
        self._config = config
        self._evaluated = config.copy_and_resolve_references()
        if config.dataset.name == STREAM:
            self._evaluated.dataset.name = STREAM_ON_DISK
        self._split = config.dataset.eval_split
        self.eval_name = f"{self._evaluated.dataset.name} {self._split}"

    def examples_per_epoch(self) -> int:
        """Training images; of the endless stream, as many as are rendered to disk."""
        if self._config.dataset.name == STREAM:
            return self._config.synthcrowd.num_train
        from input_pipeline import train_data

        return train_data.examples_per_epoch(self._config)

    def train_batches(self, start_step: int) -> Iterator[Batch]:
        """This process's share of the endless training batches from `start_step` on."""
        share = {"host_index": jax.process_index(), "host_count": jax.process_count()}
        if self._config.dataset.name == STREAM:
            from input_pipeline.synthcrowd import stream

            batch_size = self._config.train.batch_size
            return stream.batches(self._config, batch_size, start_step, **share)
        from input_pipeline import train_data

        return train_data.train_batches(self._config, start_step, **share)

    def eval_batches(self) -> Iterator[EvalBatch]:
        """This process's share of the evaluated split."""
        from input_pipeline import eval_data

        share = jax.process_index(), jax.process_count()
        return eval_data.eval_batches(self._evaluated, self._split, *share)

    def num_eval_images(self) -> int:
        """Images of the evaluated split; prepares it on first use."""
        return len(self._open())

    def eval_annotations(self) -> pathlib.Path | None:
        """The evaluated split's ground truth; None if only its publisher has it."""
        from input_pipeline.storage import splits

        if not splits.is_scored(self._evaluated, self._split):
            return None
        return splits.annotations_path(self._evaluated, self._split)

    def eval_ids_with_people(self) -> list[int]:
        """Ids of the evaluated images with a labelled keypoint, rising."""
        index = self._open().index
        return sorted(index.image_id[index.num_keypoints > 0].tolist())

    def load_eval_images(self, image_ids: Sequence[int]) -> list[tuple[RgbImage, Persons]]:
        """Images of the evaluated split, each with its labelled persons."""
        from input_pipeline import eval_data

        return eval_data.load_images(self._evaluated, self._split, image_ids)

    def _open(self):
        from input_pipeline.storage import splits

        return splits.open_split(self._evaluated, self._split)
