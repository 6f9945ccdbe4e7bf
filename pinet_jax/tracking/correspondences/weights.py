"""Trained weights of the correspondence network as one small .npz; the package has its own."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.methods.variables import Variables
from pinet_jax.runtime import files
from pinet_jax.weights.reading import check_same, named_leaves

SHIPPED = pathlib.Path(__file__).with_name("weights.npz")

# Of config.tracking, that weights are of; and of files that are older than the choice.
_FACTS = {"features": "own", "normalise": "unit"}
_KEYPOINTS, _BACKBONE = "keypoints", "backbone"


class Weights(NamedTuple):
    """What a file holds.

    Attributes:
        variables: {"params", "batch_stats"}.
        keypoints: names of the joints that the refinement is of.
        backbone: fingerprint of the one whose map the features are read off; "" if they are
            the network's own.
    """

    variables: dict[str, Any]
    keypoints: tuple[str, ...]
    backbone: str = ""


def save(
    path: str | os.PathLike, variables: Variables, config: ConfigDict, backbone: str = ""
) -> None:
    """Writes an .npz, parameters in 16 bits.

    Args:
        path: of the file, ending in .npz.
        variables: {"params", "batch_stats"}.
        config: tracking and the skeleton are noted, and asked for by `load`.
        backbone: its fingerprint (`inference.backbone_maps`), where its map is shared.

    Raises:
        UserError: the file cannot be written.
    """
    arrays = {
        "/".join(name): np.asarray(leaf, np.float16 if name[0] == "params" else np.float32)
        for name, leaf in named_leaves(dict(variables)).items()
    }
    facts = {name: np.array(config.tracking[name]) for name in _FACTS}
    facts |= {_KEYPOINTS: np.array(skeletons.of(config).keypoints), _BACKBONE: np.array(backbone)}
    with files.replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays, **facts)


def load(config: ConfigDict) -> Weights:
    """The weights that config.tracking.weights names, or the package's, in 32 bits.

    Raises:
        UserError: there is no such file, it is no such .npz, or it is of other features or
            another normalisation than the config says.
    """
    path = pathlib.Path(config.tracking.weights or SHIPPED).expanduser()
    try:
        with np.load(path) as file:
            arrays = dict(file)
        facts = {name: str(arrays.pop(name, of_old)) for name, of_old in _FACTS.items()}
        backbone = str(arrays.pop(_BACKBONE, ""))
        keypoints = tuple(map(str, arrays.pop(_KEYPOINTS)))
    except OSError as error:
        reason = error.strerror or "it is damaged"
        raise UserError(f"Cannot read config.tracking.weights '{path}' ({reason}).") from None
    except (ValueError, KeyError, EOFError):
        raise UserError(
            f"config.tracking.weights: '{path}' is no file of tools/train_correspondences.py."
        ) from None
    for name, value in facts.items():
        if value != config.tracking[name]:
            raise UserError(
                f"config.tracking.weights: '{path}' is of config.tracking.{name} '{value}' and "
                f"the config says '{config.tracking[name]}': set it so, or train others with "
                "tools/train_correspondences.py."
            )
    named = {tuple(name.split("/")): leaf.astype(np.float32) for name, leaf in arrays.items()}
    return Weights(traverse_util.unflatten_dict(named), keypoints, backbone)


def check(variables: Variables, shapes: Variables, path: str | os.PathLike) -> None:
    """UserError unless the variables are those of a network of these shapes."""
    saved, wanted = (named_leaves(dict(tree)) for tree in (variables, shapes))
    check_same(saved, wanted, path, "use weights of this network")


def knows(weights: Weights, keypoints: Sequence[str]) -> bool:
    """Whether the refinement is of these joints; otherwise only the affinity can be used."""
    return tuple(keypoints) == weights.keypoints


def count(variables: Variables) -> int:
    """Number of parameters."""
    return sum(np.size(leaf) for leaf in jax.tree.leaves(variables["params"]))
