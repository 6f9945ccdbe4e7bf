import json
import pathlib

import pytest

from input_pipeline.storage import annotations
from pinet_jax.errors import UserError
from tests.paths import DATA
from tests.pinet_jax.evaluation import annotation_cases as cases

REAL = sorted(DATA.glob("*/annotations/*.json"))

SKIP = (
    ", or leave such out with --skip_invalid of input_pipeline.prepare or "
    "--config.dataset.skip_invalid=True."
)


def read(path: pathlib.Path, skip_invalid: bool = False) -> annotations.Annotations:
    return annotations.read(path, 17, scored=True, skip_invalid=skip_invalid)


@pytest.mark.parametrize("quirk", cases.QUIRKS)
def test_what_official_files_hold_is_valid_and_completed(tmp_path, quirk):
    plain = read(cases.write(tmp_path / "plain.json"))
    result = read(cases.write(tmp_path / "quirk.json", cases.QUIRKS[quirk]))
    assert not result.problems
    assert [image["id"] for image in result.images] == [1, 2] == sorted(result.of_image)
    for image_id, persons in result.of_image.items():
        for person, expected in zip(persons, plain.of_image[image_id], strict=True):
            for field in ("id", "image_id", "iscrowd", "num_keypoints", "bbox", "area"):
                assert person[field] == expected[field]
            assert person["keypoints"][2::3] == expected["keypoints"][2::3]
        json.dumps(persons, allow_nan=False)  # as the ground truth that is written


@pytest.mark.parametrize("oddity", cases.ODDITIES)
def test_what_is_odd_is_valid(tmp_path, oddity):
    """Boxes and keypoints outside the image, crowds of no size."""
    result = read(cases.write(tmp_path / "truth.json", cases.ODDITIES[oddity]))
    assert not result.problems and sum(map(len, result.of_image.values())) == 6


@pytest.mark.parametrize(("fields", "kind", "words"), cases.BAD_PERSONS)
def test_an_invalid_annotation_is_named_or_skipped(tmp_path, fields, kind, words):
    path = cases.write(tmp_path / "truth.json", cases.bad_person(fields))
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and words in message and "\n" not in message
    assert message.endswith(SKIP)

    result = read(path, skip_invalid=True)
    assert [problem.kind for problem in result.problems] == [kind]
    assert [problem.sentence for problem in result.problems] == [message]
    assert [kept["id"] for kept in result.of_image[1] + result.of_image[2]] == [11, 13, 14, 15, 16]


BAD_FILES = [
    ({"file_name": ...}, "'file_name' missing", "image 2 is without 'file_name'"),
    ({"file_name": 5}, "file_name is no text", "image 2 has a 'file_name'"),
]


@pytest.mark.parametrize(("fields", "kind", "words"), [*cases.BAD_IMAGES, *BAD_FILES])
def test_an_invalid_image_is_named_or_skipped(tmp_path, fields, kind, words):
    path = cases.write(tmp_path / "truth.json", cases.bad_image(fields))
    with pytest.raises(UserError, match=words) as caught:
        read(path)
    assert str(path) in str(caught.value)
    result = read(path, skip_invalid=True)
    assert [problem.kind for problem in result.problems] == [kind]
    assert result.images == cases.content()["images"][:1]


def test_skipping_everything_is_an_error(tmp_path):
    """Such as annotations of another skeleton."""
    path = cases.write(tmp_path / "truth.json")
    with pytest.raises(UserError, match=r"no valid annotation.*51 numbers.*dataset\.skeleton"):
        annotations.read(path, 14, scored=True, skip_invalid=True)


def test_unscored_files_list_images_alone(tmp_path):
    path = tmp_path / "image_info.json"
    images = cases.content()["images"]
    path.write_text(json.dumps({"info": {"year": 2017}, "images": images}))
    result = annotations.read(path, 17, scored=False, skip_invalid=False)
    assert result.images == images and not result.of_image
    assert result.header == {"info": {"year": 2017}}


@pytest.mark.skipif(not REAL, reason="the real samples are not there")
def test_real_files_are_valid():
    for path in REAL:
        result = annotations.read(path, 14 if "crowdpose" in path.name else 17, True, False)
        assert result.images and result.of_image
