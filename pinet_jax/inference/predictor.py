"""Images in, people out: the library's front door."""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict, FrozenConfigDict

from pinet_jax import methods
from pinet_jax.config import part_of
from pinet_jax.errors import UserError
from pinet_jax.inference.fusion import People
from pinet_jax.inference.network_input import NetworkInput, eval_size, plan_batches, prepare
from pinet_jax.inference.predict import predict_here
from pinet_jax.methods.variables import check_whole
from pinet_jax.runtime import devices
from pinet_jax.runtime.programs import Program, in_words
from pinet_jax.runtime.waiting import first_run
from pinet_jax.weights import reading

# Fields of a config that a prediction is made from.
FIELDS = ("dtype", "bn_sync", "model", "eval", "dataset.skeleton", "dataset.custom_skeleton")
COMPILING = "compiling the prediction of {} x {} pixels, some seconds the first time"


class Predictor:
    """Finds the people in images of any sizes.

    Images of one network size go through the network together, in batches padded to
    config.eval.batch_size, so there is one compilation a network size and an image's
    result does not depend on its companions. All devices of this process share a batch,
    each working on its own images.

    Args:
        config: describes the model and, under `eval`, the test procedure.
        variables: {"params", "batch_stats"} of that model.

    Raises:
        UserError: they are of a backbone alone, or the method cannot work with a choice of
            the config.

    Attributes:
        config: as given.
        variables: as given, on the devices.
    """

    def __init__(self, config: ConfigDict, variables: Mapping[str, Any]):
        check_whole(variables)
        methods.of(config).check(config)
        self.config = config
        mesh = devices.local_mesh()
        self._num_devices = mesh.size
        self.variables = jax.device_put(dict(variables), NamedSharding(mesh, PartitionSpec()))
        self._split = NamedSharding(mesh, PartitionSpec(devices.AXIS))
        self._prediction = _prediction(FrozenConfigDict(config), mesh)

    @property
    def compile_count(self) -> int:
        """How many programs its config has so far, one a shape of batch; predictors share them."""
        return len(self._prediction.programs)

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike) -> "Predictor":
        """The predictor of a trained model.

        Args:
            path: a workdir, one of its checkpoints, or a file of released weights of any of
                the methods.

        Raises:
            UserError: there is no checkpoint, it is damaged, or the file is of no known method.
        """

        return cls(*reading.load_variables(path))

    def __call__(self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[People]:
        """People of each image, NumPy arrays without padding, by falling score.

        Args:
            images: RGB.

        Raises:
            UserError: an image is not a uint8 array of shape [height, width, 3].
        """
        _check_images(images)
        people: list[People] = [None] * len(images)
        for batch in self._batches(images):
            for index, found in zip(batch, self._predict([images[i] for i in batch]), strict=True):
                people[index] = found
        return people

    def predict_batch(
        self, images: tuple[UInt8[np.ndarray, "b _ _ 3"], ...], to_image: Float[np.ndarray, "b 2 3"]
    ) -> People:
        """Padded people of network inputs of one size, still on the device.

        Args:
            images: one array a scale, as `network_input.prepare` makes them.
            to_image: from network-input pixels of scale 1 to image pixels.
        """
        count = len(to_image)
        batch = _pad((images, to_image), -count % self._num_devices)
        people = self._prediction(self.variables, *jax.device_put(batch, self._split))
        return people if len(people.valid) == count else jax.tree.map(lambda x: x[:count], people)

    def _batches(self, images: Sequence[np.ndarray]) -> list[list[int]]:
        """Indices of images that go through the network together."""
        sizes = (eval_size(*image.shape[:2], self.config) for image in images)
        return plan_batches(sizes, lambda _: self.config.eval.batch_size)

    def _predict(self, images: Sequence[np.ndarray]) -> list[People]:
        settings = self.config.eval
        inputs = [
            prepare(image, settings.input_size, settings.scales, settings.square)
            for image in images
        ]
        batch = _stack(inputs, settings.batch_size)
        people = jax.device_get(self.predict_batch(batch.images, batch.to_image))
        return [people.of_image(row) for row in range(len(images))]


class _Prediction:
    """The compiled prediction of a config on the devices of a mesh.

    Attributes:
        programs: by the shape of images at the first scale and the structure of variables,
            which may hold a scoring net besides.
    """

    def __init__(self, config: ConfigDict, mesh: Mesh):
        model = methods.of(config).build(config)
        config = part_of(config, FIELDS)
        shared, split = PartitionSpec(), PartitionSpec(devices.AXIS)
        self.programs: dict[tuple, Program] = {}
        self._made_from = in_words(model, config.to_dict())

        def run(variables, images, to_image):
            return predict_here(model, variables, images, to_image, config)

        # Under jit alone the devices would exchange whole maps to find peaks in them.
        self._run = jax.jit(
            jax.shard_map(
                run, mesh=mesh, in_specs=(shared, split, split), out_specs=split, check_vma=False
            )
        )

    def __call__(
        self, variables: Any, images: tuple[jax.Array, ...], to_image: jax.Array
    ) -> People:
        key = images[0].shape, jax.tree.structure(variables)
        if key in self.programs:
            return self.programs[key](variables, images, to_image)
        program = self.programs[key] = Program("predict", self._run, self._made_from)
        text = COMPILING.format(*images[0].shape[1:3])
        return first_run(text, program, variables, images, to_image)


# The evaluations on the way of a training have new variables each, and one program.
@functools.lru_cache(maxsize=4)
def _prediction(config: FrozenConfigDict, mesh: Mesh) -> _Prediction:
    return _Prediction(ConfigDict(config).lock(), mesh)


def _stack(inputs: Sequence[NetworkInput], batch_size: int) -> NetworkInput:
    """A batch of inputs; its last one fills the empty places."""
    stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *inputs)
    return _pad(stacked, batch_size - len(inputs))


def _pad(batch: Any, missing: int) -> Any:
    """The batch with its last example repeated `missing` times."""
    if not missing:
        return batch
    return jax.tree.map(lambda x: np.concatenate([x, x[-1:].repeat(missing, 0)]), batch)


def _check_images(images: Sequence[np.ndarray]) -> None:
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise UserError("Predictor wants a list of images: write predictor([image]).")
    for index, image in enumerate(images):
        fits = (
            isinstance(image, np.ndarray)
            and image.dtype == np.uint8
            and image.ndim == 3
            and image.shape[2] == 3
            and image.size > 0
        )
        if not fits:
            what = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
            raise UserError(
                f"images[{index}] is {what.strip()}: give an RGB uint8 array of shape "
                "(height, width, 3)."
            )
