"""One model evaluated in several ways, side by side."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from pinet_jax.config import check_choices, with_fields
from pinet_jax.evaluation.scoring import percent
from pinet_jax.inference.pose_scoring import SCORING
from pinet_jax.runtime import tables

FILE_NAME = "comparison.json"
SCORED = "scoring_net"  # after a way's name

_FUSION = {
    "without_fusion": {"eval.pose_fusion": False},
    "with_fusion": {"eval.pose_fusion": True},
}
_SUPPRESSION = {
    "own_suppression": {"eval.suppression": "dekr", "eval.pose_fusion": False},
    "oks_suppression": {"eval.suppression": "oks", "eval.pose_fusion": False},
    "oks_pose_fusion": {"eval.suppression": "oks", "eval.pose_fusion": True},
}


def with_and_without_fusion(config: ConfigDict) -> dict[str, ConfigDict]:
    """Name -> config of either; UserError where a config cannot fuse."""
    return _ways(config, _FUSION)


def suppressions(config: ConfigDict, variables: Mapping) -> dict[str, ConfigDict]:
    """Name -> config of DEKR's own suppression, that by OKS, and pose fusion.

    Each without the scoring net and, where the variables hold one, with it.
    """
    nets = (False, True) if SCORING in variables else (False,)
    ways = {
        name + f"_{SCORED}" * net: fields | {"eval.scoring_net": net}
        for net in nets
        for name, fields in _SUPPRESSION.items()
    }
    return _ways(config, ways)


def _ways(config: ConfigDict, ways: Mapping[str, Mapping]) -> dict[str, ConfigDict]:
    configs = {name: with_fields(config, fields) for name, fields in ways.items()}
    for changed in configs.values():
        check_choices(changed)
    return configs


def table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """A line a way, its metrics in percent; empty where there is no ground truth.

    Args:
        scores: name of a way -> metrics of `scoring.metrics`, the same for all.
    """
    columns = list(next(iter(scores.values())))
    if not columns:
        return ""
    rows = [
        (name.replace("_", " "), *map(percent, found.values())) for name, found in scores.items()
    ]
    return tables.aligned([("", *columns), *rows])
