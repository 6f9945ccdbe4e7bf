"""Deterministic stand-in weights for the released PyTorch DEKR and its scoring net.

As `weights.py`, whose `fill` serves the backbone (here without the prefix
"backbone."): every tensor depends on its name, its shape and the seed only.
"""

import json
import pathlib
import sys
import zlib

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import weights  # noqa: E402

KEYPOINTS = {"coco": 17, "crowdpose": 14}
FEATURES = {"coco": 74, "crowdpose": 59}  # of the scoring net


def fill(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Value of the state-dict entry `name`."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    drawn = rng.standard_normal(shape)
    if len(shape) == 4:  # features are positive: without their mean, outputs stay small
        drawn = drawn - drawn.mean((1, 2, 3), keepdims=True)
    if name.endswith("regular_matrix"):  # a constant: the nine taps, rows (y, x)
        taps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        value = np.array(taps, np.float32).T
    elif name in ("transition_heatmap.0.weight", "transition_offset.0.weight"):
        value = 0.1 * drawn / np.sqrt(fan_in)
    elif name.endswith("transform_matrix_conv.weight"):
        value = drawn / np.sqrt(fan_in)
    elif name.endswith("transform_matrix_conv.bias"):
        value = np.array([1, 0, 0, 1]) + 0.3 * drawn
    elif name.endswith("translation_conv.weight"):
        value = 2 * drawn / np.sqrt(fan_in)
    elif name.endswith("translation_conv.bias"):
        value = 1.5 * drawn
    elif name == "head_heatmap.1.weight":
        value = 0.8 * drawn / np.sqrt(fan_in)
    elif (
        name.startswith("head_heatmap.0") and len(shape) == 4 or name.endswith("adapt_conv.weight")
    ):
        value = drawn / np.sqrt(fan_in)
    elif name == "head_heatmap.1.bias":
        value = 0.6 + 0.1 * drawn
    elif name.startswith("offset_final_layer") and name.endswith("weight"):
        value = 4 * drawn / np.sqrt(fan_in)
    elif name.startswith("offset_final_layer"):  # far keypoints, some outside the map
        value = 6 * drawn
    elif name == "l3.bias":
        value = 0.5 + 0 * drawn
    elif name == "l3.weight":
        value = 0.3 * drawn / np.sqrt(fan_in)
    elif name in ("l1.weight", "l2.weight"):
        value = np.sqrt(2 / fan_in) * drawn
    else:
        return weights.fill(name, shape, seed)
    return value.astype(np.float32)


def state_dict(dataset: str = "coco", seed: int = 4) -> dict[str, np.ndarray]:
    """The whole state dict of the network, in the released order."""
    manifest = pathlib.Path(__file__).with_name(f"dekr_manifest_{dataset}.json")
    return {n: fill(n, tuple(s), seed) for n, s in json.loads(manifest.read_text())}


def scoring_state_dict(dataset: str = "coco", seed: int = 4) -> dict[str, np.ndarray]:
    """The state dict of the scoring net."""
    sizes = (FEATURES[dataset], 256, 256, 1)
    entries = {}
    for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:]), start=1):
        entries[f"l{i}.weight"] = fill(f"l{i}.weight", (fan_out, fan_in), seed)
        entries[f"l{i}.bias"] = fill(f"l{i}.bias", (fan_out,), seed)
    return entries
