import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.evaluation import occlusion
from tests.input_pipeline import fake_coco
from tests.paths import DATA

PARTITIONS = (*skeletons.COCO.partitions.values(), *skeletons.CROWDPOSE.partitions.values())


def reference(visibility, parts):
    """The definition, person by person and part by part."""
    counts = dict.fromkeys(occlusion.STATES, 0)
    with_a_visible_part, shares = 0, []
    for person in visibility:
        states = []
        for part in parts:
            labels = [person[k] for k in part if person[k] > 0]
            if not labels:
                states.append("unlabelled")
                continue
            shares.append(sum(v == 2 for v in labels) / len(labels))
            if all(v == 2 for v in labels):
                states.append("visible")
            elif all(v == 1 for v in labels):
                states.append("hidden")
            else:
                states.append("partly")
        for state in states:
            counts[state] += 1
        with_a_visible_part += "visible" in states
    pairs = len(visibility) * len(parts)
    return occlusion.Occlusion(
        num_parts=len(parts),
        some_part_visible=with_a_visible_part / len(visibility),
        visible_keypoints=sum(shares) / len(shares) if shares else float("nan"),
        states={name: count / pairs for name, count in counts.items()},
    )


def assert_same(found, want):
    assert found.num_parts == want.num_parts
    assert found.some_part_visible == pytest.approx(want.some_part_visible)
    assert found.visible_keypoints == pytest.approx(want.visible_keypoints, nan_ok=True)
    assert found.states == pytest.approx(want.states)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.data())
def test_against_the_definition(data):
    parts = data.draw(st.sampled_from(PARTITIONS))
    labels = st.lists(st.sampled_from([0, 1, 2]), min_size=17, max_size=17)
    visibility = np.array(data.draw(st.lists(labels, min_size=1, max_size=6)), np.float32)
    found = occlusion.occlusion(visibility, parts)
    assert_same(found, reference(visibility.tolist(), parts))
    assert sum(found.states.values()) == pytest.approx(1)


def test_one_person_by_hand():
    visibility = np.array([[2.0, 2, 1, 0, 2, 1, 0]])
    found = occlusion.occlusion(visibility, ((0, 1), (1, 2), (2, 5), (3, 6), (3, 4)))
    assert found.some_part_visible == 1
    assert found.visible_keypoints == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert found.states == {"visible": 0.4, "partly": 0.2, "hidden": 0.2, "unlabelled": 0.2}


def test_nothing_labelled_in_a_part():
    found = occlusion.occlusion(np.array([[0.0, 2.0]]), ((0,),))
    assert found.states["unlabelled"] == 1 and found.some_part_visible == 0
    assert np.isnan(found.visible_keypoints)


# ---- Files


def write(path, *visibilities, **fields):
    """An annotation file of one person for each list of v; `fields` are the last one's."""
    people = [
        fake_coco.annotation(number, 1, np.array([(3, 4, v) for v in visibility]))
        for number, visibility in enumerate(visibilities, start=1)
    ]
    people[-1] |= fields
    path.write_text(json.dumps({"images": [{"id": 1}], "annotations": people}))
    return path


def test_crowds_and_people_without_labels_do_not_count(tmp_path):
    path = write(tmp_path / "a.json", [2] * 14, [0] * 14, [0] * 13 + [1], [1] * 14, iscrowd=1)
    visibility = occlusion.read_visibility(path, skeletons.CROWDPOSE)
    np.testing.assert_array_equal(visibility, [[2] * 14, [0] * 13 + [1]])
    found = occlusion.of_partitions(visibility, skeletons.CROWDPOSE)
    assert list(found) == list(skeletons.CROWDPOSE.partitions)
    assert found["head"].states == {"visible": 0.5, "partly": 0, "hidden": 0.5, "unlabelled": 0}


@pytest.mark.parametrize(
    ("visibility", "words"), [([0] * 17, "no person"), ([2] * 14, "42 numbers")]
)
def test_nobody_of_the_skeleton(tmp_path, visibility, words):
    path = write(tmp_path / "a.json", visibility)
    with pytest.raises(UserError, match=words) as error:
        occlusion.read_visibility(path, skeletons.COCO)
    assert str(path) in str(error.value)


def test_real_people():
    path = DATA / "coco_people/annotations/person_keypoints_train2017.json"
    if not path.is_file():
        pytest.skip("the sample data is not here")
    visibility = occlusion.read_visibility(path, skeletons.COCO)
    assert visibility.shape == (4697, 17)
    found = occlusion.of_partitions(visibility, skeletons.COCO)
    for name, parts in skeletons.COCO.partitions.items():
        assert_same(found[name], reference(visibility.tolist(), parts))


# ---- What is shown


def statistics():
    return occlusion.of_partitions(np.array([[2.0] * 17, [1.0] * 17]), skeletons.COCO)


def test_the_table():
    lines = occlusion.table(statistics()).splitlines()
    assert len(lines) == 6 and len({len(line) for line in lines}) == 1
    assert lines[3].split() == ["part-large", "3", "50.0", "50.0", "50.0", "0.0", "50.0", "0.0"]


def test_the_picture_shows_the_shares():
    picture = occlusion.draw(statistics(), "two persons")
    assert picture.dtype == np.uint8 and picture.ndim == 3 and min(picture.shape[:2]) > 300
    right = picture[:, picture.shape[1] // 2 :].reshape(-1, 3)
    visible, _, hidden, _ = (
        (right == tuple(bytes.fromhex(color[1:]))).all(1).sum() for color in occlusion._STATE_COLORS
    )
    assert visible > 1000 and visible == pytest.approx(hidden, rel=0.05)  # half of each bar
