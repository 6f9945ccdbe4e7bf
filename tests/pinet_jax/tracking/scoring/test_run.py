"""Scoring folders: what is written, and one sentence for each thing that is wrong."""

import json
import shutil

import pytest

from pinet_jax import skeletons
from pinet_jax.errors import UserError
from pinet_jax.tracking.scoring import run, tables
from tests.pinet_jax.tracking.scoring import golden


@pytest.fixture
def folders(tmp_path):
    """Tracks and annotations of the small golden case, to be changed."""
    for name in ("gt", "pred"):
        shutil.copytree(golden.FOLDER / "by_hand" / name, tmp_path / name)
    return tmp_path / "pred", tmp_path / "gt"


def change(folder, edit):
    """Edits the one file of a folder."""
    (path,) = folder.glob("*.json")
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def test_tables_and_report(folders, tmp_path, capsys):
    scores = run.score(*folders, tmp_path / "out")
    printed = capsys.readouterr().out
    _, _, expected = golden.read("by_hand")
    total = expected["posetrack18"]["official"]["mota"]["total"]
    assert f"{total:.2f}" in printed
    assert f"{100 * expected['oks']['combined']['identity']['IDF1']:.2f}" in printed
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written == json.loads(json.dumps(scores))
    page = (tmp_path / "out" / "report.html").read_text()
    for row in [*tables.joints(scores), *tables.people(scores["oks"])]:
        assert all(f"{cell}<" in page for cell in row)


def test_both_variants_are_printed_where_they_differ(folders):
    rows = tables.joints(run.score(*folders))
    variants = [row[1] for row in rows if row[0] == "MOTA"]
    assert variants == ["official", "corrected"]
    assert [row[1] for row in rows if row[0] == "AssA"] == [""]


def test_a_name_with_tracks_behind_it_is_found(folders):
    (path,) = folders[0].glob("*.json")
    path.rename(path.with_stem(f"{path.stem}_tracks"))
    assert run.score(*folders)["oks"]["combined"]["IDSW"] == 3


def test_without_heads_people_are_scored_alone(folders):
    def behead(content):
        for person in content["annotations"]:
            del person["bbox_head"]

    change(folders[1], behead)
    assert set(run.score(*folders)) == {"oks"}


def test_one_person_without_a_head_is_named(folders):
    change(folders[1], lambda content: content["annotations"][5].pop("bbox_head"))
    with pytest.raises(UserError, match="person without 'bbox_head'"):
        run.score(*folders)


def test_a_video_s_own_tracks_name_one_file_in_every_frame(folders):
    def name_the_film(content):
        for image in content["images"]:
            image["file_name"] = "clip.mp4"

    change(folders[0], name_the_film)
    assert run.score(*folders)["oks"]["combined"]["IDSW"] == 3


def test_unequal_frame_lists(folders):
    def cut(content):
        content["images"] = content["images"][:-1]
        ids = {image["id"] for image in content["images"]}
        content["annotations"] = [p for p in content["annotations"] if p["image_id"] in ids]

    change(folders[0], cut)
    with pytest.raises(UserError, match="tracks have 11 frames and the annotations 12: list every"):
        run.score(*folders)


def test_frames_in_another_order(folders):
    change(folders[0], lambda content: content["images"].reverse())
    with pytest.raises(UserError, match=r"frame 0 is '000011.jpg' in the tracks and '000000.jpg'"):
        run.score(*folders)


def test_an_id_twice_in_a_frame(folders):
    def repeat(content):
        content["annotations"][1]["track_id"] = content["annotations"][0]["track_id"]

    path = change(folders[0], repeat)
    with pytest.raises(UserError, match=rf"{path}': track 11 stands twice in the frame '.*0.jpg'"):
        run.score(*folders)


def test_another_skeleton(folders):
    def rename(content):
        content["categories"][0]["keypoints"] = list(skeletons.COCO.keypoints)

    change(folders[0], rename)
    with pytest.raises(UserError, match=r"keypoints nose, left_eye, .*annotations' skeleton"):
        run.score(*folders)


def test_an_unknown_skeleton_and_ones_own(folders):
    names = [f"joint {number}" for number in range(17)]

    def rename(content):
        content["categories"][0]["keypoints"] = names

    for folder in folders:
        change(folder, rename)
    with pytest.raises(UserError, match="no known skeleton: give --config"):
        run.score(*folders)
    own = skeletons.Skeleton("own", names, tuple(range(17)), (), [0.05] * 17, {"all": [[0]]})
    assert run.score(*folders, own=own)["oks"]["combined"]["MOTA"] > 0


def test_a_video_without_its_tracks(folders):
    (path,) = folders[0].glob("*.json")
    path.unlink()
    with pytest.raises(UserError, match=r"has no '900011_mpii_test.json'"):
        run.score(*folders)


def test_a_joint_that_is_never_labelled_is_null(folders, tmp_path):
    nose = slice(0, 3)

    def remove(content):
        for person in content["annotations"]:
            person["keypoints"][nose] = [0, 0, 0]

    change(folders[1], remove)
    scores = run.score(*folders, tmp_path / "out")
    written = json.loads(
        (tmp_path / "out" / "metrics.json").read_text(), parse_constant=pytest.fail
    )
    assert written["posetrack18"]["corrected"]["mota"]["nose"] is None
    assert scores["posetrack18"]["corrected"]["mota"]["total"] > 0


def test_frames_that_are_all_unlabelled(folders):
    def unlabel(content):
        for image in content["images"]:
            image["is_labeled"] = False

    change(folders[1], unlabel)
    with pytest.raises(UserError, match=r"no frame in '.*' is labelled"):
        run.score(*folders)


def test_a_folder_without_annotations(folders, tmp_path):
    with pytest.raises(UserError, match="no JSON file in the folder"):
        run.score(folders[0], tmp_path)
