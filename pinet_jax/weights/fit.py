"""Which config weights are of; where they differ from another, and which would fit."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from pinet_jax import methods
from pinet_jax.backbones import released as hrnet
from pinet_jax.backbones.released import Shapes
from pinet_jax.config import load_config, shipped, with_fields
from pinet_jax.errors import UserError

LISTED = 30  # entries that an error names, at most


def check(given: Shapes, wanted: Shapes, config: ConfigDict) -> None:
    """UserError unless weights have the names and shapes that the config's model wants.

    Args:
        given: of the weights, without PyTorch's counters.
        wanted: of the model, or of its backbone.
        config: the model's; only for the advice.
    """
    misshapen = [n for n in wanted if n in given and given[n] != wanted[n]]
    missing = [n for n in wanted if n not in given]
    unknown = [n for n in given if n not in wanted]
    problems = _taking_turns(
        [f"{n} has shape {given[n]}, the config wants {wanted[n]}" for n in misshapen],
        [f"missing {n} {wanted[n]}" for n in missing],
        [f"unknown {n} {given[n]}" for n in unknown],
    )
    if not problems:
        return
    more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    raise UserError(
        f"The weights do not fit the config ({len(problems)} entries: {len(misshapen)} misshapen, "
        f"{len(missing)} missing, {len(unknown)} unknown): {'; '.join(problems[:LISTED])}{more}. "
        f"{advice(given, config)}"
    )


def advice(given: Shapes, config: ConfigDict) -> str:
    """A sentence that says which shipped config and which overrides would fit."""
    fields = model_fields(given, config)
    if not fields:
        return f"They are of another kind of network: give weights of {_known()} or HRNet."
    changes = {f: fields[f] for f in _differences(config, fields)}
    if not changes:
        return "No config fits better: the file itself is damaged or of another kind of network."
    flags = " ".join(f"--config.{f}={_flag(v)}" for f, v in changes.items())
    fitting = [name for name in shipped() if not _differences(load_config(name), fields)]
    if not fitting:
        return f"No shipped config has this model: add {flags}."
    return f"Use configs/{', configs/'.join(f'{name}.py' for name in fitting)}, or add {flags}."


def method_of(given: Iterable[str]) -> str | None:
    """The first method whose heads are among these names of entries; None for none."""
    given = tuple(given)
    for method in methods.NAMES:
        heads = methods.named(method).released.HEADS
        if any(name.startswith(heads) for name in given):
            return method
    return None


def config_of(given: Shapes, file_name: str) -> ConfigDict:
    """The config of a released model, locked: the shipped one of the fewest differences, mended.

    Of models of one size, such as CID's for COCO and OCHuman, the file's name may tell; else
    it is that of the dataset which the keypoints are named after.

    Args:
        given: of the weights.
        file_name: that they were published as.

    Raises:
        UserError: they are of no method, or of keypoints that none of the skeletons has.
    """
    method, base = method_of(given), load_config("base")
    if method is None:
        raise UserError(
            f"these are weights of none of {_known()}: give a released model of one of them, "
            "or a checkpoint of train.py (a backbone alone is for config.train.init_from)."
        )
    fields = model_fields(given, base)
    if "dataset.skeleton" not in fields:
        raise UserError(
            "its keypoints are of no known skeleton: convert it by tools/convert_weights.py, with "
            "a config that has the skeleton."
        )

    def rank(config: ConfigDict) -> tuple:
        dataset = config.dataset.name
        other_method = config.model.method != fields["model.method"]
        unnamed = dataset not in file_name.lower()
        other_keypoints = dataset != config.dataset.skeleton
        return other_method, len(_differences(config, fields)), unnamed, other_keypoints

    return with_fields(min(map(load_config, shipped()), key=rank), fields)


def model_fields(given: Shapes, config: ConfigDict) -> dict[str, Any]:
    """Config fields, dotted, that entries and their shapes give away."""
    method = method_of(given)
    names = methods.named(method or config.model.method).released
    of_backbone = {name.removeprefix(names.BACKBONE): shape for name, shape in given.items()}
    of_method = {"model.method": method} | names.model_fields(given, config) if method else {}
    fields = hrnet.model_fields(of_backbone) | of_method
    return {name: value for name, value in fields.items() if value is not None}


def _known() -> str:
    return ", ".join(methods.NAMES)


def _differences(config: ConfigDict, fields: Mapping[str, Any]) -> list[str]:
    return [field for field, value in fields.items() if _value(config, field) != value]


def _value(config: ConfigDict, field: str) -> Any:
    section, name = field.split(".")
    return config[section][name]


def _flag(value: Any) -> str:
    return str(value).replace(" ", "")


def _taking_turns(*groups: Iterable[str]) -> list[str]:
    """All items, the groups in turn, so that the first few show each group."""
    turns = itertools.zip_longest(*groups)
    return [item for turn in turns for item in turn if item is not None]
