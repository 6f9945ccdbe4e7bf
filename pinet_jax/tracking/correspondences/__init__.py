"""Tracking by keypoint correspondences, learned from still images (Rafi et al., ECCV 2020)."""

from ml_collections import ConfigDict

from pinet_jax.data import RgbImage
from pinet_jax.errors import UserError
from pinet_jax.inference.backbone_maps import BackboneMaps
from pinet_jax.tracking.correspondences import weights
from pinet_jax.tracking.correspondences.linker import CorrespondenceLinker
from pinet_jax.tracking.correspondences.view import ModelView, SquareView, View
from pinet_jax.tracking.correspondences.warping import Warper
from pinet_jax.tracking.frames import Detections
from pinet_jax.tracking.linkers import Model


def build(config: ConfigDict, model: Model | None) -> CorrespondenceLinker:
    """The linker of a config.

    Args:
        config: tracking, the skeleton and eval are read.
        model: finds people in crops in which somebody should be found again, and makes the
            maps of config.tracking.features "shared"; None recovers nobody.

    Raises:
        UserError: the weights cannot be read, or do not fit the config or the model.
    """
    trained = weights.load(config)
    view = _view(config, model, trained)
    size = config.eval.batch_size

    def estimate(crops: list[RgbImage]) -> list[Detections]:
        batches = (crops[start : start + size] for start in range(0, len(crops), size))
        found = (people for batch in batches for people in model(batch))
        return [Detections(people.keypoints, people.keypoint_scores) for people in found]

    return CorrespondenceLinker(config, view, Warper(config, trained), estimate if model else None)


def _view(config: ConfigDict, model: Model | None, trained: weights.Weights) -> View:
    """What config.tracking.features sees of frames."""
    if config.tracking.features == "own":
        return SquareView(config.tracking.view_size)
    if model is None:
        raise UserError(
            "config.tracking.features is 'shared', but there is no model whose features could be "
            "shared: use 'own'."
        )
    maps = BackboneMaps(model.config, model.variables)
    if maps.fingerprint != trained.backbone:
        raise UserError(
            f"config.tracking.weights: '{config.tracking.weights}' were trained on the features of "
            "another model: give that model, or train others with "
            "tools/train_correspondences.py --checkpoint."
        )
    return ModelView(maps, config.eval)
