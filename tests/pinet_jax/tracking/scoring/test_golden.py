"""Every value of the official programs, in both variants, to 1e-6 relative."""

import functools

import numpy as np
import pytest

from pinet_jax.skeletons import POSETRACK
from pinet_jax.tracking.scoring import protocols
from tests.pinet_jax.tracking.scoring import golden

EVERY_CASE = pytest.mark.parametrize("case", golden.CASES)
BOTH = pytest.mark.parametrize("variant", protocols.VARIANTS)

read = functools.cache(golden.read)


def same(got, wanted):
    """Joints by name; the official programs of AP and MOTA call head_bottom neck."""
    assert wanted
    for name, value in wanted.items():
        ours = got["head_bottom" if name == "neck" else name]
        np.testing.assert_allclose(ours, value, rtol=1e-6, atol=1e-9, err_msg=name)


@EVERY_CASE
def test_average_precision(case):
    videos, names, expected = read(case)
    got = protocols.posetrack_ap(videos, names)
    wanted = expected["posetrack_ap"]
    same(got["ap"], wanted["ap"])
    same(got["precision"], wanted["ap_precision"])
    same(got["recall"], wanted["ap_recall"])


@BOTH
@EVERY_CASE
def test_mota_and_motp(case, variant):
    videos, names, expected = read(case)
    got = protocols.posetrack18(videos, names, variant)
    wanted = expected["posetrack18"][variant]
    for score in ("mota", "motp", "precision", "recall"):
        same(got[score], wanted[score])
    for count, values in wanted["counts"].items():
        same(got["counts"][count.removeprefix("num_")], values)
    same(got["counts"]["distance"], wanted["distance_sum"])


@BOTH
@EVERY_CASE
def test_hota_of_joints(case, variant):
    videos, names, expected = read(case)
    got = protocols.posetrack21(videos, names, variant)
    wanted = dict(expected["posetrack21"][variant])
    for video, values in wanted.pop("by_sequence").items():
        same(got["by_video"][video], values)
    for key, values in wanted.items():
        if key.endswith("_sum_over_alpha"):
            same(got["sums"][key.split("_")[1]], values)
        elif key.endswith("_by_alpha_total"):
            np.testing.assert_allclose(got["by_alpha"][key.split("_")[0]], values, rtol=1e-6)
        else:
            same(got[key], values)


@EVERY_CASE
def test_people_by_oks(case):
    videos, _, expected = read(case)
    got = protocols.oks_protocol(videos, POSETRACK.sigmas)
    wanted = expected["oks"]
    pairs = [(got["combined"], wanted["combined"])]
    pairs += [(got["by_video"][name], values) for name, values in wanted["by_sequence"].items()]
    for ours, families in pairs:
        for family in families.values():
            same({name: ours.get(name, ours.get(name[4:])) for name in family}, family)
    np.testing.assert_allclose(got["by_alpha"]["HOTA"], wanted["HOTA_by_alpha"], rtol=1e-6)


def test_the_order_of_people_in_a_frame_does_not_matter():
    videos, names, _ = read("crowd")
    random = np.random.default_rng(0)

    def shuffled(frame):
        return frame.take(random.permutation(len(frame.ids)))

    mixed = {
        name: [pair._replace(truth=shuffled(pair.truth), found=shuffled(pair.found)) for pair in v]
        for name, v in videos.items()
    }
    before = protocols.posetrack21(videos, names, "corrected")
    after = protocols.posetrack21(mixed, names, "corrected")
    same(after["HOTA"], before["HOTA"])
    before, after = (protocols.posetrack18(v, names, "corrected") for v in (videos, mixed))
    same(after["mota"], before["mota"])
    before, after = (protocols.oks_protocol(v, POSETRACK.sigmas) for v in (videos, mixed))
    same(after["combined"], before["combined"])
