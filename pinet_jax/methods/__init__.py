"""One folder a method; what methods share lies beside them.

Nothing outside knows which method runs. A method is a module with these names:

    build(config)          its network, a Flax module with `init_all(images)`
    parts(config)          keypoint indices of each body part that it proposes people from
    check(config)          UserError for choices of the config that it cannot work with
    person_area            the area of people that config.targets.area names, in training
    targets_of             what its maps should be for a training batch, in which each image has
                           a `key` for what is drawn at random
    count_batch            what the losses of targets are divided by
    train_loss             the training loss of a batch, or of a part of one
    find_candidates        scored poses in images, before suppression
    inspect                the same with what they were read from
    network_cost           parameters and operations of its pieces
    counted_for            what those are of, beside a size, in words
    released               names and layouts of its weights in the authors' files; entries that
                           begin with one of its HEADS tell a file to be the method's

and, where ONNX can hold its network, `onnx_maps` and `onnx_delta`; where its targets can be drawn
beside the samples (tools/browse_dataset.py), `show_targets`.
"""

import importlib
from types import ModuleType

from ml_collections import ConfigDict

from pinet_jax.errors import UserError

NAMES = ("pinet", "spm", "dekr", "cid")


def of(config: ConfigDict) -> ModuleType:
    """The method that config.model.method names; UserError names the known ones."""
    return named(config.model.method)


def named(name: str) -> ModuleType:
    """The method called `name`; UserError names the known ones."""
    if name not in NAMES:
        raise UserError(f"config.model.method: no method '{name}'; use one of {', '.join(NAMES)}.")
    return importlib.import_module(f"pinet_jax.methods.{name}")
