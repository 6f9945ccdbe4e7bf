"""A trained model as a file that runs without this library, StableHLO; ONNX: onnx_models.py.

It takes what `network_input.prepare` makes of images. The network's size fixes the
program, so a file serves one size.
"""

import os
import pathlib
import re
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from pinet_jax import methods
from pinet_jax.errors import UserError
from pinet_jax.inference.network_input import LONG_SIDE_MULTIPLE, network_size, prepare
from pinet_jax.inference.predict import predict
from pinet_jax.methods.variables import Variables, check_whole
from pinet_jax.runtime import files

PLATFORMS = ("cpu", "cuda", "tpu")

Size = tuple[int, int]


def parse_size(text: str) -> Size:
    """Height and width of "HxW"; UserError if it is none."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise UserError(f"--size: '{text}' is no size, write HEIGHTxWIDTH, as in 512x768.")
    return int(match[1]), int(match[2])


def stablehlo(
    config: ConfigDict, variables: Variables, size: Size, batch: int | None = None
) -> bytes:
    """The whole prediction with its weights, for all of PLATFORMS; jax.export.deserialize reads it.

    It maps (images, to_image), as of `inference.predict.predict`, to a dict of the fields of
    `fusion.People`.

    Args:
        config: the model and, under `eval`, the test procedure.
        variables: {"params", "batch_stats"} of that model.
        size: height and width of the network's input at scale 1.
        batch: number of images; None for any.

    Raises:
        UserError: no image gives that size, the variables are of a backbone alone, or
            flatbuffers is not installed.
    """
    _check_flatbuffers()
    shapes = input_shapes(config, size)
    model = build(config, variables)

    def find_people(
        images: tuple[UInt8[Array, "b _ _ 3"], ...], to_image: Float[Array, "b 2 3"]
    ) -> dict[str, Array]:
        # A dict: loading a class of our own would need this library.
        return dict(vars(predict(model, variables, images, to_image, config)))

    count = export.symbolic_shape("b")[0] if batch is None else batch
    images = tuple(jax.ShapeDtypeStruct((count, *shape), jnp.uint8) for shape in shapes)
    to_image = jax.ShapeDtypeStruct((count, 2, 3), jnp.float32)
    exported = export.export(jax.jit(find_people), platforms=PLATFORMS)(images, to_image)
    return bytes(exported.serialize())


def _check_flatbuffers() -> None:
    try:
        import flatbuffers  # noqa: F401 (TensorFlow brings it, JAX does not)
    except ImportError:
        raise UserError(
            "JAX needs the package flatbuffers to write StableHLO: run `pip install flatbuffers`."
        ) from None


def input_shapes(config: ConfigDict, size: Size) -> list[tuple[int, int, int]]:
    """Shape of the network's input at each scale of the config.

    Args:
        config: its `eval` part counts.
        size: height and width at scale 1.

    Raises:
        UserError: no image gives that size, or a scale of it does not fit the network.
    """
    settings = config.eval
    if 0 in size or network_size(*size, settings.input_size, 1.0, settings.square) != size:
        other = "the same" if settings.square else f"a multiple of {LONG_SIDE_MULTIPLE}, no smaller"
        raise UserError(
            f"--size: no image is {size[0]}x{size[1]} pixels to the network: give "
            f"config.eval.input_size ({settings.input_size}) as one side and {other} as the "
            "other, or change --config.eval.input_size."
        )
    blank = np.zeros((*size, 3), np.uint8)
    prepared = prepare(blank, settings.input_size, settings.scales, settings.square)
    return [image.shape for image in prepared.images]


def build(config: ConfigDict, variables: Variables) -> nn.Module:
    """The network of a config; UserError where `Predictor` raises one."""
    check_whole(variables)
    method = methods.of(config)
    method.check(config)
    return method.build(config)


def write_file(path: str | os.PathLike, content: bytes) -> None:
    """Writes a whole file, in place of an older one, or none; UserError if it cannot."""
    path = _local(path)
    files.make_folder(path.parent)
    with files.replacing(path) as temporary:
        temporary.write_bytes(content)


def write_folder(path: str | os.PathLike, contents: Mapping[str, bytes]) -> None:
    """Writes a folder of files, all or none; UserError if it cannot or holds something."""
    check_new_folder(path)
    path = _local(path)
    files.make_folder(path.parent)
    with files.replacing(path) as temporary:
        temporary.mkdir()
        for name, content in contents.items():
            (temporary / name).write_bytes(content)


def check_new_folder(path: str | os.PathLike) -> None:
    """UserError unless `path` is absent or an empty folder."""
    path = _local(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"'{path}' is there already: name a new folder.")


def _local(path: str | os.PathLike) -> pathlib.Path:
    if files.is_cloud(path):
        raise UserError(f"'{path}' is a URL: export to a local path and copy it there.")
    return files.to_path(path)
