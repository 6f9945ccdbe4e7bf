"""The linker that config.tracking.method names."""

from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.tracking.flow import FlowLinker
from pinet_jax.tracking.linkers import Linker, Merger, Model
from pinet_jax.tracking.oks import OksLinker

NAMES = ("oks", "flow", "correspondences")


def build(config: ConfigDict, model: Model | None) -> Linker:
    """The linker of a config.

    Args:
        config: its `tracking` and its skeleton.
        model: that finds the people; None where there is none, so that nobody is recovered.

    Raises:
        UserError: an unknown method, or one that cannot work with a choice of the config.
    """
    linker = _build(config, model)
    if config.tracking.merge and not isinstance(linker, Merger):
        raise UserError(
            f"config.tracking.merge: the method '{config.tracking.method}' cannot merge tracks: "
            "use correspondences."
        )
    return linker


def _build(config: ConfigDict, model: Model | None) -> Linker:
    method, sigmas = config.tracking.method, skeletons.of(config).sigmas
    if method == "oks":
        return OksLinker(config.tracking, sigmas)
    if method == "flow":
        return FlowLinker(config.tracking, sigmas)
    if method == "correspondences":
        from pinet_jax.tracking import correspondences

        return correspondences.build(config, model)
    raise UserError(f"config.tracking.method: no method '{method}'; use one of {', '.join(NAMES)}.")
