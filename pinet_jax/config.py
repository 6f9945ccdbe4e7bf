"""A config by name or path or from disk, with dotted overrides."""

import functools
import importlib.util
import json
import operator
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from pinet_jax.errors import UserError
from pinet_jax.runtime import files

SKELETON_FIELDS = ("skeleton", "custom_skeleton")  # of config.dataset
CONFIG_DIR = pathlib.Path(__file__).resolve().parent.parent / "configs"

CHOICES = {  # dotted field -> what it may be
    "dtype": ("bfloat16", "float32"),
    "parallel": ("pmap", "shard_map"),
    "model.conv_init": ("released", "he"),
    "model.graph": ("dynamic", "static", "none"),
    "model.sampling": ("released", "exact"),
    "targets.convention": ("released", "paper"),
    "targets.area": ("box", "segment", "released"),
    "eval.suppression": ("oks", "dekr"),
    "tracking.features": ("own", "shared"),
    "train.schedule": ("step", "cosine"),
}


def check_choices(config: ConfigDict) -> None:
    """UserError unless every field of CHOICES holds one of its choices, and peaks have windows.

    Called where a config comes in, from the command line or into a network: what computes
    by a choice takes it as checked.
    """
    for field, allowed in CHOICES.items():
        value = functools.reduce(operator.getitem, field.split("."), config)
        if value not in allowed:
            raise UserError(f"config.{field}: '{value}' is not one of {', '.join(allowed)}.")
    if config.eval.suppression == "dekr" and config.eval.pose_fusion:
        raise UserError(
            "config.eval.pose_fusion goes with config.eval.suppression=oks, whose groups it fuses: "
            "set config.eval.pose_fusion=False, or config.eval.suppression=oks."
        )
    windows, sides = config.eval.peak_windows, config.eval.peak_window_sides
    if len(windows) != len(sides) + 1 or not all(w > 0 and w % 2 for w in windows):
        raise UserError(
            f"config.eval.peak_windows: {windows} must be odd numbers, one more than "
            f"config.eval.peak_window_sides has, {len(sides)}."
        )
    if list(sides) != sorted(sides):
        raise UserError(f"config.eval.peak_window_sides: {sides} must be rising.")


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


def shipped() -> list[str]:
    """Names of the configs that come with the library, without what they share."""
    return sorted(path.stem for path in CONFIG_DIR.glob("[a-z]*.py") if path.stem != "base")


def with_fields(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A copy of `config`, locked, with dotted fields changed; UserError as of `set_field`."""
    changed = config.copy_and_resolve_references().lock()
    for field, value in changes.items():
        set_field(changed, field, value)
    return changed


def set_field(config: ConfigDict, field: str, value: Any) -> None:
    """Sets the dotted `field`; UserError if the config has no such field."""
    try:
        config.update_from_flattened_dict({field: value})
    except (KeyError, AttributeError):
        raise UserError(f"The config has no field '{field}'; see configs/base.py.") from None
    except TypeError as error:
        raise UserError(f"config.{field}: {error}.") from None


def part_of(config: ConfigDict, fields: Iterable[str]) -> ConfigDict:
    """A locked config of these dotted fields alone, so that no other can be read from it.

    Args:
        config: with all fields.
        fields: of it; a section stands for all that is in it.
    """
    tree: dict[str, Any] = {}
    for field in fields:
        *sections, name = field.split(".")
        inner = functools.reduce(lambda outer, part: outer.setdefault(part, {}), sections, tree)
        inner[name] = functools.reduce(operator.getitem, field.split("."), config)
    return ConfigDict(tree).copy_and_resolve_references().lock()


def check_same_model(config: ConfigDict, trained: ConfigDict) -> None:
    """UserError unless the checkpoint's config describes the same network and skeleton.

    Everything else may differ: a model trained on COCO can be tested on OCHuman.
    """
    wanted, saved = _of_model(config), _of_model(trained)
    for field, value in wanted.items():
        if saved.get(field) != value:
            raise UserError(
                f"The checkpoint is of another config: config.{field} is {saved.get(field)!r} "
                f"there and {value!r} here; evaluate with the config it was trained with, such as "
                f"configs/{_likest(saved)}.py, or set this field as there."
            )


def _likest(of_model: Mapping[str, Any]) -> str:
    """The shipped config whose network differs in the fewest fields, its method first of all."""

    def differences(name: str) -> tuple[bool, int]:
        fields = _of_model(load_config(name))
        different = [field for field, value in fields.items() if of_model.get(field) != value]
        return "model.method" in different, len(different)

    return min(shipped(), key=differences)


def _of_model(config: ConfigDict) -> dict[str, Any]:
    """Dotted fields that describe a trained network and its skeleton."""
    of_model = {"model.method": config.model.method}  # first, where several fields differ
    of_model |= {f"model.{name}": value for name, value in config.model.to_dict().items()}
    del of_model["model.conv_init"]  # how fresh weights are drawn does not matter to them
    return of_model | {f"dataset.{name}": config.dataset[name] for name in SKELETON_FIELDS}


def save_config(workdir: str | os.PathLike, config: ConfigDict) -> None:
    """Writes WORKDIR/config.json, making the folder if absent."""
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    files.write_text(files.make_folder(workdir) / "config.json", text)


def read_config(workdir: str | os.PathLike) -> ConfigDict:
    """The config in WORKDIR/config.json, locked; UserError if it is absent or damaged."""
    path = files.to_path(workdir) / "config.json"
    try:
        return config_from_json(json.loads(path.read_text(encoding="utf-8")), path)
    except OSError as error:
        raise UserError(f"Cannot read '{path}' ({error.strerror}): is it a workdir?") from None
    except (ValueError, AttributeError):
        raise UserError(f"'{path}' is damaged: write it anew by starting train.py.") from None


def config_from_json(tree: Mapping[str, Any], where: str | os.PathLike) -> ConfigDict:
    """The locked config of its JSON form.

    Fields that came into the library after it was written get the values of
    configs/base.py, and a line on standard error names them.
    """
    config = _tuples(tree)
    added = list(_fill(config, load_config("base").to_dict()))
    if added:
        print(
            f"'{where}' is older than config.{', config.'.join(added)}: "
            "taken from configs/base.py.",
            file=sys.stderr,
            flush=True,
        )
    return ConfigDict(config).lock()


def _tuples(value: Any) -> Any:
    """Configs hold tuples, never lists, so JSON's arrays are tuples."""
    if isinstance(value, Mapping):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _fill(config: dict, base: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Adds the fields of `base` that `config` lacks; yields their names."""
    for field, value in base.items():
        if field not in config:
            config[field] = value
            yield prefix + field
        elif isinstance(value, Mapping):
            yield from _fill(config[field], value, f"{prefix}{field}.")
