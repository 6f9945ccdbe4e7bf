"""The flow baseline: people are carried on by the image's motion, also through gaps."""

import cv2
import numpy as np

from pinet_jax.tracking import flow, methods, tracker
from tests.pinet_jax.tracking import people

SHIFT = 9.0  # pixels a frame to the right


def moving(count):
    """A textured scene that moves to the right."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    wide = cv2.resize(noise, (600, 240), interpolation=cv2.INTER_CUBIC)
    return [wide[:, 300 - round(SHIFT * n) : 540 - round(SHIFT * n)] for n in range(count)]


def test_flow_is_read_between_pixels():
    y, x = np.mgrid[:20, :30].astype(np.float32)
    field = np.stack([2 * x + y, x - y], -1)
    points = np.array([[[3.5, 7.25], [10.0, 11.5]]])
    got = flow.read_flow(field, points)
    wanted = np.stack([2 * points[..., 0] + points[..., 1], points[..., 0] - points[..., 1]], -1)
    np.testing.assert_allclose(got, wanted, atol=0.1)


def links_over(frames, seen):
    """Whether a person that moves with the scene keeps its id, by the method."""
    ids = {}
    for method in ("oks", "flow"):
        config = people.config(method=method, max_age=10, min_length=1)
        places = [people.at((60 + SHIFT * n, 120)) for n in range(len(frames))]
        found = [p if n in seen else people.NOBODY for n, p in enumerate(places)]
        linker = methods.build(config, None)
        tracked = tracker.follow(zip(frames, found, strict=True), linker, config)
        ids[method] = {i for _, p in tracked for i in p.ids.tolist()}
    return ids


def test_flow_follows_through_a_gap_where_poses_alone_do_not():
    ids = links_over(moving(7), seen={0, 1, 5, 6})
    assert ids["flow"] == {1} and len(ids["oks"]) > 1


def test_large_frames_are_looked_at_reduced():
    frames = [cv2.resize(f, None, fx=3, fy=3) for f in moving(3)]
    linker = methods.build(people.config(method="flow"), None)
    state = linker.start()
    from pinet_jax.tracking import tracks

    known = tracks.start(17)
    for number, image in enumerate(frames):
        found = people.at((180 + 3 * SHIFT * number, 360))
        state, links = linker.link(state, image, number, known.live, found)
        known, _ = tracks.advance(known, links, people.config().tracking)
    assert max(state.grey.shape) == 512
    moved = state.keypoints[1] - people.at((180, 360)).keypoints[0]
    # The prediction of the last frame: one step of the scene from where it was seen.
    np.testing.assert_allclose(np.median(moved[:, 0]), 2 * 3 * SHIFT, atol=3)
