"""Tracking in a run of prediction: files of tracks, folders of frames, pictures, CSV."""

import csv
import json
import weakref

import numpy as np
import pytest
from PIL import Image

from pinet_jax import visualize
from pinet_jax.errors import UserError
from pinet_jax.inference.fusion import People
from pinet_jax.media import frame_folders, videos
from pinet_jax.media.finder import Artist, Finder
from pinet_jax.media.predictions import PredictionFiles
from pinet_jax.media.run import Run, picture_names
from pinet_jax.media.track_files import TrackFile
from pinet_jax.media.tracking import Tracking
from pinet_jax.skeletons import COCO, POSETRACK
from pinet_jax.tracking import posetrack
from pinet_jax.tracking.frames import Tracked
from tests import tiny
from tests.pinet_jax.tracking import people

FIELDS = {"tracking.method": "oks", "eval.batch_size": 4, "eval.input_size": 64}


class TwoWalkers(Finder):
    """Finds two people who walk as the frame's first pixel says, in any order."""

    def __init__(self, **overrides):
        super().__init__(tiny.config(**FIELDS | overrides), {})

    def __call__(self, images):
        found = []
        for image in images:
            step = int(image[0, 0, 0]) // 8
            pair = people.at((40 + step, 60), (110 - step, 64), scores=(0.9, 0.8))
            order = [step % 2, 1 - step % 2]
            pair = pair.take(np.array(order))
            found.append(
                People(pair.keypoints, pair.keypoint_scores, pair.scores, np.ones(2, bool))
            )
        return found


def write_frames(folder, count, size=(120, 160)):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.full((*size, 3), 8 * number, np.uint8)).save(
            folder / f"{number:03d}.png"
        )
    return folder


def predict(paths, out, form="model", **overrides):
    """The run, and what predictions.json holds."""
    out.mkdir(exist_ok=True)
    find = TwoWalkers(**overrides)
    artist = Artist(find.config, {}, 0.2, 0.02, parts=False, heatmaps=False)
    with PredictionFiles(out, COCO, 20, with_csv=True, with_tracks=True) as predictions:
        names = picture_names(paths, out)
        tracking = Tracking(find.config, find, form)
        run = Run(find, artist, predictions, out, names, tracking)
        run.predict_files(paths)
    return run, json.loads((out / "predictions.json").read_text())


def test_a_folder_of_frames_is_a_video_with_tracks(tmp_path):
    folder = write_frames(tmp_path / "clip", 9)
    run, written = predict([folder], tmp_path / "out")
    assert not run.failures
    tracks = posetrack.read(tmp_path / "out" / "clip_tracks.json")
    assert tracks.keypoints == COCO.keypoints
    assert [f.file_name for f in tracks.frames] == sorted(map(str, folder.iterdir()))
    for number, frame in enumerate(tracks.frames):
        places = dict(zip(frame.ids.tolist(), frame.keypoints[:, 11, 0], strict=True))
        hip = people.HEIGHT * people.STANDING[11, 0]
        assert places == pytest.approx({1: 40 + number + hip, 2: 110 - number + hip}, abs=0.01)
    assert [image["frame"] for image in written["images"]] == list(range(9))
    assert [image["file_name"] for image in written["images"]] == sorted(map(str, folder.iterdir()))
    (video,) = written["videos"]
    assert video["file_name"] == str(folder) and video["num_frames"] == 9
    assert {r["track_id"] for r in written["results"]} == {1, 2}
    with open(tmp_path / "out" / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["person"], row["track"]) for row in rows] == [("1", "1"), ("2", "2")] * 9
    film = videos.open_video(tmp_path / "out" / "clip.mp4")
    assert film.count == 9


def test_batches_of_one_and_of_eight_give_the_same_tracks(tmp_path):
    folder, written = write_frames(tmp_path / "clip", 11), []
    for batch_size in (1, 8):
        out = tmp_path / str(batch_size)
        run, _ = predict([folder], out, **{"eval.batch_size": batch_size})
        assert not run.failures
        written.append((out / "clip_tracks.json").read_text())
    assert written[0] == written[1]


def test_posetracks_joints_are_written_where_they_are_wanted(tmp_path):
    folder = write_frames(tmp_path / "clip", 4)
    predict([folder], tmp_path / "out", form="posetrack")
    tracks = posetrack.read(tmp_path / "out" / "clip_tracks.json")
    assert tracks.keypoints == POSETRACK.keypoints
    frame = tracks.frames[0]
    assert not frame.there[:, 3:5].any() and frame.there[:, :3].all()
    np.testing.assert_allclose(frame.scores[0, :3], [0.9, 0.45, 0.45])


@pytest.mark.slow
def test_300_frames_stay_in_constant_memory(tmp_path, monkeypatch):
    folder = write_frames(tmp_path / "clip", 31)
    alive, most = set(), []
    read = frame_folders._read

    def watched(paths):
        for number, frame in enumerate(frame for _ in range(10) for frame in read(paths)):
            alive.add(number)
            weakref.finalize(frame, alive.remove, number)
            most.append(len(alive))
            yield frame

    monkeypatch.setattr(frame_folders, "_read", watched)
    monkeypatch.setattr(videos.Video, "file_of", lambda video, number: str(number))
    run, _ = predict([folder], tmp_path / "out")
    assert not run.failures and len(most) == 310
    # Two batches, and the frames until tracks are long enough.
    assert max(most) <= 2 * 4 + 4


def test_a_video_that_ends_early_keeps_its_tracks_so_far(tmp_path):
    folder = write_frames(tmp_path / "clip", 6)
    (folder / "004.png").write_bytes(b"no picture")
    run, _ = predict([folder], tmp_path / "out")
    (failure,) = run.failures
    assert "004.png" in str(failure)
    tracks = posetrack.read(tmp_path / "out" / "clip_tracks.json")
    assert [frame.ids.tolist() for frame in tracks.frames] == [[1, 2]] * 4


def test_frames_of_several_sizes_are_refused(tmp_path):
    folder = write_frames(tmp_path / "clip", 2)
    Image.new("RGB", (20, 10)).save(folder / "b.png")
    with pytest.raises(UserError, match=r"b.png' has 20x10 pixels and those before it 160x120"):
        list(frame_folders.open_frames(folder).frames())


def test_videos_are_found_in_folders(tmp_path):
    first, second = write_frames(tmp_path / "a", 2), write_frames(tmp_path / "b" / "c", 1)
    with videos.VideoWriter(tmp_path / "b" / "d.mp4", 10) as video:
        video.write(np.zeros((32, 32, 3), np.uint8))
    assert frame_folders.find_videos([tmp_path]) == [first, second, tmp_path / "b" / "d.mp4"]
    assert frame_folders.find_videos([tmp_path / "a" / "000.png"]) == [tmp_path / "a" / "000.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"No video at .*empty': give videos, or folders of frames"):
        frame_folders.find_videos([tmp_path / "empty"])
    with pytest.raises(UserError, match="No videos given"):
        frame_folders.find_videos([])


def test_the_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "a_tracks.json"
    with pytest.raises(RuntimeError), TrackFile(path, COCO, "model") as tracks:
        found = people.at((50, 50))
        frame = {"file_name": "a.mp4", "width": 9, "height": 9}
        tracks.add(frame, Tracked(found.keypoints, found.keypoint_scores, np.array([1])))
        raise RuntimeError
    assert not list(tmp_path.iterdir())


# ---- Pictures


def drawn(ids, places, trails):
    found = people.at(*places)
    image = np.zeros((200, 300, 3), np.uint8)
    poses = found.keypoints, found.keypoint_scores
    return visualize.draw_tracks(image, np.array(ids, int), *poses, trails, COCO, min_long_side=0)


def test_a_person_keeps_its_colour_whatever_its_place_in_the_frame():
    def has(picture, color):
        near = np.abs(picture.astype(int) - np.array(color) * visualize.people.OPACITY).max(-1)
        return (near < 12).any()

    for ids, places in (((1, 2), ((80, 100), (200, 100))), ((2,), ((80, 100),))):
        picture = drawn(ids, places, {})
        for track in (1, 2, 3):
            assert has(picture, visualize.person_color(track - 1)) == (track in ids)


def test_trails_grow_fade_and_end():
    trails = {}
    for number in range(60):
        seen = people.at((20 + 4 * number, 100)) if number < 40 else people.NOBODY
        ids = np.array([5] if number < 40 else [], int)
        trails = visualize.longer_trails(trails, ids, seen.keypoints, seen.keypoint_scores)
    assert len(trails[5]) == visualize.tracks.TRAIL
    assert np.isfinite(trails[5]).all(1).sum() == visualize.tracks.TRAIL - 20
    nobody = np.zeros((0, 17, 2)), np.zeros((0, 17))
    for _ in range(4):
        trails = visualize.longer_trails(trails, np.zeros(0, int), *nobody)
    assert not trails

    way = np.stack([np.linspace(10, 290, visualize.tracks.TRAIL), np.full(24, 150.0)], 1)
    row = drawn((), (), {1: way})[150].astype(int).sum(1)
    assert 0 < row[40] < row[150] < row[280]
    assert not drawn((), (), {})[150].any()
