"""Do weights fit a config? If not: where they differ and which config would fit."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from pinet_jax import methods
from pinet_jax.backbones import released as hrnet
from pinet_jax.backbones.released import Shapes
from pinet_jax.config import CONFIG_DIR, load_config
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
        return "They are of another kind of network: give weights of PINet or HRNet."
    changes = {f: v for f, v in fields.items() if _value(config, f) != v}
    if not changes:
        return "No config fits better: the file itself is damaged or of another kind of network."
    flags = " ".join(f"--config.{f}={_flag(v)}" for f, v in changes.items())
    shipped = [name for name in _shipped() if _describes(load_config(name), fields)]
    if not shipped:
        return f"No shipped config has this model: add {flags}."
    return f"Use configs/{', configs/'.join(f'{name}.py' for name in shipped)}, or add {flags}."


def model_fields(given: Shapes, config: ConfigDict) -> dict[str, Any]:
    """Config fields, dotted, that entries and their shapes give away."""
    names = methods.of(config).released
    of_backbone = {name.removeprefix(names.BACKBONE): shape for name, shape in given.items()}
    fields = hrnet.model_fields(of_backbone) | names.model_fields(given, config)
    return {name: value for name, value in fields.items() if value is not None}


def _describes(config: ConfigDict, fields: Mapping[str, Any]) -> bool:
    return all(_value(config, field) == value for field, value in fields.items())


def _value(config: ConfigDict, field: str) -> Any:
    section, name = field.split(".")
    return config[section][name]


def _flag(value: Any) -> str:
    return str(value).replace(" ", "")


def _shipped() -> list[str]:
    return sorted(path.stem for path in CONFIG_DIR.glob("[a-z]*.py") if path.stem != "base")


def _taking_turns(*groups: Iterable[str]) -> list[str]:
    """All items, the groups in turn, so that the first few show each group."""
    turns = itertools.zip_longest(*groups)
    return [item for turn in turns for item in turn if item is not None]
