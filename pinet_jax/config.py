"""Loading a config by name or path, with dotted overrides."""

import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from pinet_jax.errors import UserError

CONFIG_DIR = pathlib.Path(__file__).resolve().parent.parent / "configs"


def load_config(name: str, overrides: Mapping[str, Any] | None = None) -> ConfigDict:
    """The config called `name`, locked.

    Args:
        name: a file of `configs/` without its suffix, or the path of a config file.
        overrides: dotted field -> value, e.g. {"eval.scales": (0.5, 1.0, 2.0)}.

    Raises:
        UserError: no such config, or an override names an unknown field.
    """
    path = pathlib.Path(name) if name.endswith(".py") else CONFIG_DIR / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIG_DIR.glob("[a-z]*.py")))
        raise UserError(f"No config '{name}': give a path, or one of {known}.")
    spec = importlib.util.spec_from_file_location(f"pinet_config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config().lock()
    for field, value in (overrides or {}).items():
        set_field(config, field, value)
    return config


def set_field(config: ConfigDict, field: str, value: Any) -> None:
    """Sets the dotted `field`; UserError if the config has no such field."""
    try:
        config.update_from_flattened_dict({field: value})
    except (KeyError, AttributeError):
        raise UserError(f"The config has no field '{field}'; see configs/base.py.") from None
    except TypeError as error:
        raise UserError(f"config.{field}: {error}.") from None
