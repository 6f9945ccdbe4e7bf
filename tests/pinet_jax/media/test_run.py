"""The run without a network: what is read, batched, named and written."""

import json
import weakref

import jax
import numpy as np
import pytest
from PIL import Image

from pinet_jax.errors import UserError
from pinet_jax.inference.fusion import People
from pinet_jax.media import videos as video_files
from pinet_jax.media.predictions import PredictionFiles
from pinet_jax.media.run import Artist, Finder, Run, picture_names
from pinet_jax.skeletons import COCO
from tests import tiny


class OnePerson(Finder):
    """Finds in every image one person, standing where its brightness says."""

    def __init__(self, **overrides):
        super().__init__(tiny.config(**{"eval.batch_size": 4, **overrides}), {})
        self.batches = []

    def __call__(self, images):
        self.batches.append([image.shape[:2] for image in images])
        self.input_size(*images[0].shape[:2])
        return [
            People(
                keypoints=np.full((1, 17, 2), image.mean(), np.float32),
                keypoint_scores=np.ones((1, 17), np.float32),
                scores=np.ones(1, np.float32),
                valid=np.ones(1, bool),
            )
            for image in images
        ]


class Plain(Artist):
    """Draws the image alone."""

    def __init__(self):
        self.kinds = ["people", "parts"]

    def __call__(self, image, people):
        return dict.fromkeys(self.kinds, image)


def predict(find, paths, out, max_frames=None) -> tuple[Run, dict]:
    out.mkdir(exist_ok=True)
    with PredictionFiles(out, COCO, 20) as predictions:
        run = Run(find, Plain(), predictions, out, picture_names(paths, out))
        run.predict_files(paths, max_frames)
    return run, json.loads((out / "predictions.json").read_text())


def write_image(path, height, width, grey=0):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((height, width, 3), grey, np.uint8)).save(path)
    return path


def test_images_of_one_network_size_go_together(tmp_path):
    sizes = [(60, 60), (60, 80), (90, 90), (1, 1), (64, 100), (50, 50), (64, 64), (10, 400)]
    paths = [write_image(tmp_path / f"{i}.png", *size, grey=10 * i) for i, size in enumerate(sizes)]
    find = OnePerson()
    run, written = predict(find, paths, tmp_path / "out")
    assert find.batches == [
        [(60, 60), (90, 90), (1, 1), (50, 50)],
        [(64, 64)],
        [(60, 80), (64, 100)],
        [(10, 400)],
    ]
    assert not run.failures
    assert [image["file_name"] for image in written["images"]] == list(map(str, paths))
    assert [(i["height"], i["width"]) for i in written["images"]] == sizes
    assert [r["keypoints"][0] for r in written["results"]] == [10 * i for i in range(8)]
    assert [r["image_id"] for r in written["results"]] == list(range(1, 9))
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {path.name for path in paths}
    assert {path.name for path in (tmp_path / "out" / "parts").iterdir()} == pictures


@pytest.mark.parametrize(
    ("shape", "size", "batch"),
    [((64, 256), (64, 256), 4), ((64, 257), (64, 320), 1), ((300, 12000), (64, 2560), 1)],
)
def test_long_images_go_alone(shape, size, batch):
    find = OnePerson()
    assert find.input_size(*shape) == size and find.batch_size(*shape) == batch


def test_too_long_images_fail_and_are_named(tmp_path):
    paths = [write_image(tmp_path / "a.png", 1, 70), write_image(tmp_path / "b.png", 60, 60, 5)]
    run, written = predict(OnePerson(), paths, tmp_path / "out")
    (failure,) = run.failures
    assert "a.png" in str(failure) and "70x1 pixels" in str(failure)
    assert [image["file_name"] for image in written["images"]] == [str(paths[1])]
    assert written["images"][0]["id"] == 2
    run, _ = predict(OnePerson(**{"eval.square": 1.0}), paths, tmp_path / "out")
    assert not run.failures


def test_images_that_cannot_be_read_are_named_and_left_out(tmp_path):
    whole = write_image(tmp_path / "a.png", 60, 60, 7)
    cut, text = tmp_path / "b.png", tmp_path / "c.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    text.write_text("no picture")
    find = OnePerson()
    run, written = predict(find, [whole, cut, text], tmp_path / "out")
    for failure, path in zip(run.failures, (cut, text), strict=True):
        assert str(path) in str(failure)
    assert find.batches == [[(60, 60)]]
    assert [image["file_name"] for image in written["images"]] == [str(whole)]


def test_too_little_memory_is_told_of_each_image(tmp_path, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    find = Finder(tiny.config(), {})
    monkeypatch.setattr(Finder, "_together", exhausted)
    paths = [write_image(tmp_path / f"{i}.png", 60, 60) for i in range(2)]
    run, written = predict(find, paths, tmp_path / "out")
    assert not written["images"]
    for failure, path in zip(run.failures, paths, strict=True):
        assert str(path) in str(failure) and "more memory than there is" in str(failure)


def test_other_errors_of_the_device_are_bugs(monkeypatch):
    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something")

    monkeypatch.setattr(Finder, "_together", broken)
    with pytest.raises(jax.errors.JaxRuntimeError):
        Finder(tiny.config(), {})([np.zeros((60, 60, 3), np.uint8)])


# ---- Videos


def write_video(path, count, rate=12.5):
    with video_files.VideoWriter(path, rate) as video:
        for number in range(count):
            video.write(np.full((40, 62, 3), number % 10 * 25, np.uint8))
    return path


def test_300_frames_stream_in_order_and_in_constant_memory(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 300)
    alive, most = set(), []

    def watched(frames):
        for number, frame in enumerate(frames):
            alive.add(number)
            weakref.finalize(frame, alive.remove, number)
            most.append(len(alive))
            yield frame

    captured = video_files._captured
    monkeypatch.setattr(video_files, "_captured", lambda capture: watched(captured(capture)))
    find = OnePerson()
    run, written = predict(find, [path], tmp_path / "out")
    assert not run.failures
    assert [len(batch) for batch in find.batches] == [4] * 75
    assert len(most) == 300 and max(most) <= 2 * 4 + 1

    (video,) = written["videos"]
    assert video == {
        **{"id": 1, "file_name": str(path), "width": 62, "height": 40},
        **{"frame_rate": 12.5, "num_frames": 300},
    }
    assert [image["frame"] for image in written["images"]] == list(range(300))
    assert [image["id"] for image in written["images"]] == list(range(1, 301))
    assert {image["video_id"] for image in written["images"]} == {1}
    brightness = [round(r["keypoints"][0] / 25) for r in written["results"]]
    assert brightness == [number % 10 for number in range(300)]
    for folder in ("out", "out/parts"):
        copy = video_files.open_video(tmp_path / folder / "a.mp4")
        assert copy.count == 300 and copy.rate == 12.5


def test_videos_come_after_images_and_share_no_id(tmp_path):
    first = write_video(tmp_path / "a.mp4", 3)
    image = write_image(tmp_path / "b.png", 60, 60)
    second = write_video(tmp_path / "c.mp4", 2)
    _, written = predict(OnePerson(), [first, image, second], tmp_path / "out")
    assert [(i["id"], i.get("video_id"), i.get("frame")) for i in written["images"]] == [
        *((1, None, None), (2, 1, 0), (3, 1, 1), (4, 1, 2), (5, 2, 0), (6, 2, 1)),
    ]


def test_max_frames_ends_a_video_early(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30)
    run, written = predict(OnePerson(), [path], tmp_path / "out", max_frames=6)
    assert not run.failures
    assert len(written["images"]) == written["videos"][0]["num_frames"] == 6


def test_bad_videos_are_named_and_the_frames_before_the_damage_kept(tmp_path, monkeypatch):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    damaged = write_video(tmp_path / "damaged.mp4", 5)
    frames = video_files._film_frames

    def breaking(*arguments):
        yield from frames(*arguments)
        raise UserError(f"The video '{damaged}' ends.")

    monkeypatch.setattr(video_files, "_film_frames", breaking)
    run, written = predict(OnePerson(), [damaged, empty], tmp_path / "out")
    for failure, path in zip(run.failures, (damaged, empty), strict=True):
        assert str(path) in str(failure)
    assert len(written["images"]) == 5 and len(written["videos"]) == 1
    assert video_files.open_video(tmp_path / "out" / "damaged.mp4").count == 5


def test_a_live_video_is_written_in_real_time(tmp_path, monkeypatch):
    now = iter([0.0, 0.1, 0.5])
    monkeypatch.setattr(video_files.time, "monotonic", lambda: next(now))
    monkeypatch.setattr("pinet_jax.media.run.Progress", lambda *_: SilentProgress())
    frames = [np.full((40, 62, 3), 50 * number, np.uint8) for number in range(3)]
    live = video_files.Video(tmp_path / "webcam0", 10.0, None, lambda: iter(frames), live=True)
    with PredictionFiles(tmp_path, COCO, 20) as predictions:
        names = {live.path: "webcam0"}
        Run(OnePerson(), Plain(), predictions, tmp_path, names).predict_video(live)
    written = json.loads((tmp_path / "predictions.json").read_text())
    # Where each frame begins in the written video; the last one, late, is there four times.
    assert [image["frame"] for image in written["images"]] == [0, 1, 2]
    assert written["videos"][0]["num_frames"] == 6
    assert video_files.open_video(tmp_path / "webcam0.mp4").count == 6


def test_a_webcam_without_pictures_is_a_failure(tmp_path):
    live = video_files.Video(tmp_path / "webcam0", 10.0, None, lambda: iter(()), live=True)
    with PredictionFiles(tmp_path, COCO, 20) as predictions:
        run = Run(OnePerson(), Plain(), predictions, tmp_path, {live.path: "webcam0"})
        run.predict_video(live)
    assert "webcam0' gave no picture" in str(run.failures[0])
    assert not (tmp_path / "webcam0.mp4").exists()


class SilentProgress:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self):
        pass


# ---- Names


def test_clashing_names_are_numbered(tmp_path):
    paths = [tmp_path / name for name in ("a.jpg", "a.png", "a_2.png", "b/a.gif")]
    names = picture_names(paths, tmp_path / "out")
    assert list(names.values()) == ["a", "a_2", "a_2_2", "a_3"]


def test_no_file_is_replaced(tmp_path):
    with pytest.raises(UserError, match=r"a\.mp4' is one of the"):
        picture_names([tmp_path / "a.mp4"], tmp_path)
