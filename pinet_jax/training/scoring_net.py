"""Training DEKR's scoring net on what a trained model finds in its own training images."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.config import with_fields
from pinet_jax.data import Data
from pinet_jax.errors import UserError
from pinet_jax.evaluation import scoring as evaluation
from pinet_jax.evaluation.loop import predict_split
from pinet_jax.inference import pose_scoring

THRESHOLD = 0.5  # of a match; the OKS of all pairs are known at any
Params = dict[str, Any]


def train(config: ConfigDict, variables: Params, data: Data) -> Params:
    """Parameters of a scoring net for a model.

    Args:
        config: of the model; `eval` says how people are found, `scoring` how it is trained.
        variables: of the model.
        data: its evaluated split is what the net is trained on.

    Raises:
        UserError: the split has no ground truth, or nobody is found in it.
    """
    config = with_fields(
        config, {"eval.scoring_net": False, "eval.max_detections": config.eval.max_people}
    )
    annotations = data.eval_annotations()
    if annotations is None:
        raise UserError(f"There is no ground truth of {data.eval_name}: name a labelled split.")
    results = predict_split(config, variables, data)
    skeleton = skeletons.of(config)
    scorer = evaluation.match(results, annotations, skeleton, config.eval.max_detections)
    found = pairs(list(scorer.images(THRESHOLD)), skeleton)
    if not len(found[1]):
        raise UserError(f"The model finds nobody in {data.eval_name}: train it first.")
    return fit(*found, skeleton, config)


def pairs(
    images: Sequence[evaluation.ImageMatches], skeleton: skeletons.Skeleton
) -> tuple[Float[np.ndarray, "n f"], Float[np.ndarray, " n"]]:
    """Features of every detection, and its best OKS with anybody.

    An OKS of exactly 1 becomes 0: the COCO tools give it beside somebody without labels.
    """
    keypoints, best = [], []
    for image in images:
        oks = image.oks.max(1, initial=0)
        keypoints += [np.reshape(found["keypoints"], (-1, 3)) for found in image.detections]
        best += np.where(oks == 1, 0, oks).tolist()
    poses = np.reshape(keypoints, (-1, skeleton.num_keypoints, 3)).astype(np.float32)
    features = pose_scoring.pose_features(poses[..., :2], poses[..., 2], skeleton)
    return np.asarray(features), np.array(best, np.float32)


def fit(
    features: Float[np.ndarray, "n f"],
    oks: Float[np.ndarray, " n"],
    skeleton: skeletons.Skeleton,
    config: ConfigDict,
) -> Params:
    """Parameters that predict the OKS: least squares, by Adam.

    Args:
        features: of detections.
        oks: of the same.
        skeleton: of their poses.
        config: `scoring` and seed are read.
    """
    settings = config.scoring
    params = pose_scoring.init(config.seed, skeleton)
    optimizer = optax.adam(settings.learning_rate)
    state = params, optimizer.init(params)
    rng = np.random.default_rng(config.seed)
    size = min(settings.batch_size, len(oks))
    data = jnp.asarray(features), jnp.asarray(oks)
    epoch = jax.jit(lambda state, rows: _epoch(state, rows, *data, optimizer))
    for _ in range(settings.epochs):
        order = rng.permutation(len(oks))
        state, _ = epoch(state, order[: len(order) // size * size].reshape(-1, size))
    return jax.device_get(state[0])


def _epoch(
    state: tuple[Params, Any],
    rows: Array,
    features: Float[Array, "n f"],
    oks: Float[Array, " n"],
    optimizer: optax.GradientTransformation,
) -> tuple[tuple[Params, Any], Array]:
    """State after a step for each batch of rows, and their losses."""

    def loss(params: Params, row: Array) -> Array:
        predicted = pose_scoring.ScoringNet().apply({"params": params}, features[row])
        return jnp.mean((predicted - oks[row]) ** 2)

    def step(state: tuple[Params, Any], row: Array) -> tuple[tuple[Params, Any], Array]:
        params, moments = state
        value, gradient = jax.value_and_grad(loss)(params, row)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    return jax.lax.scan(step, state, rows)
