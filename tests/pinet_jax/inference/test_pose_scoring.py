"""The scoring net: its features, its files, its training."""

import jax.numpy as jnp
import numpy as np
import pytest

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.evaluation.scoring import ImageMatches
from pinet_jax.inference import pose_scoring
from pinet_jax.training import scoring_net
from tests import tiny
from tests.golden import weights_dekr


@pytest.mark.parametrize(("skeleton", "count"), [("coco", 74), ("crowdpose", 59)])
def test_released_nets_come_back_bit_for_bit(skeleton, count):
    given = weights_dekr.scoring_state_dict(skeleton)
    known = skeletons.get(skeleton)
    assert pose_scoring.num_features(known) == count
    back = pose_scoring.to_torch(pose_scoring.from_torch(given, known))
    assert set(back) == set(given)
    for name in given:
        np.testing.assert_array_equal(back[name], given[name])
    other = skeletons.COCO if skeleton == "crowdpose" else skeletons.CROWDPOSE
    with pytest.raises(UserError, match=f"no scoring net for the skeleton '{other.name}'"):
        pose_scoring.from_torch(given, other)


def test_features_do_not_change_with_place_and_size():
    rng = np.random.default_rng(0)
    poses = rng.uniform(0, 200, (3, 17, 2)).astype(np.float32)
    scores = rng.random((3, 17)).astype(np.float32)
    features = pose_scoring.pose_features(poses, scores, skeletons.COCO)
    moved = pose_scoring.pose_features(3 * poses + 50, scores, skeletons.COCO)
    np.testing.assert_allclose(features, moved, atol=1e-4)
    np.testing.assert_array_equal(features[:, -17:], scores)


def test_a_pose_smaller_than_a_pixel_has_finite_features():
    poses = np.full((1, 14, 2), 7, np.float32)
    features = pose_scoring.pose_features(poses, np.ones((1, 14), np.float32), skeletons.CROWDPOSE)
    np.testing.assert_array_equal(features[0, :-14], 0)


def test_a_model_without_a_net_or_with_anothers_is_refused():
    poses = np.zeros((1, 2, 14, 2), np.float32), np.zeros((1, 2, 14), np.float32)
    with pytest.raises(UserError, match="holds no scoring net: train one"):
        pose_scoring.predicted_oks({}, *poses, skeletons.CROWDPOSE)
    net = {pose_scoring.SCORING: pose_scoring.init(0, skeletons.COCO)}
    with pytest.raises(UserError, match="of another skeleton than 'crowdpose'"):
        pose_scoring.predicted_oks(net, *poses, skeletons.CROWDPOSE)


def test_pairs_are_detections_with_their_best_oks():
    poses = np.random.default_rng(0).uniform(0, 50, (3, 17, 3))
    image = ImageMatches(
        image_id=1,
        detections=tuple({"keypoints": pose.ravel().tolist()} for pose in poses),
        persons=({}, {}),
        oks=np.array([[0.2, 0.6], [0.9, 1.0], [0.0, 0.0]]),
        person_of=np.array([1, 0, -1]),
    )
    alone = ImageMatches(2, image.detections[:1], (), np.zeros((1, 0)), np.array([-1]))
    features, oks = scoring_net.pairs([image, alone], skeletons.COCO)
    np.testing.assert_allclose(oks, [0.6, 0, 0, 0], rtol=1e-6)  # 1 is beside the unlabelled
    want = pose_scoring.pose_features(
        poses[..., :2].astype(np.float32), poses[..., 2].astype(np.float32), skeletons.COCO
    )
    np.testing.assert_allclose(features[:3], want, rtol=1e-5)


def test_it_learns_what_the_scores_say():
    rng = np.random.default_rng(0)
    config = tiny.config(**{"scoring.batch_size": 64})
    count = pose_scoring.num_features(skeletons.COCO)
    features = rng.normal(0, 0.3, (1500, count)).astype(np.float32)
    oks = np.clip(0.5 + features[:, -1], 0, 1)
    params = scoring_net.fit(features, oks, skeletons.COCO, config)
    predicted = pose_scoring.ScoringNet().apply({"params": params}, jnp.array(features))
    assert np.mean((predicted - oks) ** 2) < 0.1 * oks.var()
