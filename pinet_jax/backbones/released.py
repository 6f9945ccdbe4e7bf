"""Names of HRNet's weights as its authors and timm publish them."""

import re
from collections.abc import Mapping
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]  # by published name

IMAGENET_HEAD = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")

MODULES = (  # module path, joined by "/" -> published prefix of its conv and its norm
    (r"stem(\d)", r"conv\1", r"bn\1"),
    (r"layer1_(\d+)/conv(\d)", r"layer1.\1.conv\2", r"layer1.\1.bn\2"),
    (
        r"layer1_(\d+)/downsample",
        r"layer1.\1.downsample.0",
        r"layer1.\1.downsample.1",
    ),
    # Transition t makes branch t new (one more Sequential) and adapts the others.
    (
        r"transition(\d)_\1",
        r"transition\1.\1.0.0",
        r"transition\1.\1.0.1",
    ),
    (
        r"transition(\d)_(\d)",
        r"transition\1.\2.0",
        r"transition\1.\2.1",
    ),
    (
        r"stage(\d)_(\d+)/branch(\d)_(\d+)/conv(\d)",
        r"stage\1.\2.branches.\3.\4.conv\5",
        r"stage\1.\2.branches.\3.\4.bn\5",
    ),
    (
        r"stage(\d)_(\d+)/fuse(\d)_(\d)",
        r"stage\1.\2.fuse_layers.\3.\4.0",
        r"stage\1.\2.fuse_layers.\3.\4.1",
    ),
    (
        r"stage(\d)_(\d+)/fuse(\d)_(\d)_(\d)",
        r"stage\1.\2.fuse_layers.\3.\4.\5.0",
        r"stage\1.\2.fuse_layers.\3.\4.\5.1",
    ),
)


def model_fields(given: Shapes) -> dict[str, Any]:
    """Config fields, dotted, that entries and their shapes give away; None where they do not."""
    modules = tuple(count(given, rf"stage{stage}\.(\d+)\.") for stage in (2, 3, 4))
    return {
        "model.width": outputs(given, "transition1.0.0.weight"),
        "model.stem_width": outputs(given, "conv1.weight"),
        "model.bottlenecks": count(given, r"layer1\.(\d+)\."),
        "model.modules": modules if all(modules) else None,
        "model.blocks": count(given, r"stage2\.0\.branches\.0\.(\d+)\."),
    }


def outputs(given: Shapes, name: str) -> int | None:
    """Channels that an entry puts out; None if it is absent."""
    return given[name][0] if given.get(name) else None


def count(given: Shapes, pattern: str) -> int | None:
    """How many values the pattern's group has among the names; None for none."""
    return len({m[1] for m in (re.match(pattern, name) for name in given) if m}) or None
