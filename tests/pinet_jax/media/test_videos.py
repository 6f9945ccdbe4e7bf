import os
import pathlib
import signal
import weakref

import cv2
import numpy as np
import pytest
from PIL import Image

from pinet_jax.errors import UserError
from pinet_jax.media import videos as video_files
from pinet_jax.media.videos import Pace, VideoWriter, is_video, open_video, open_webcam
from tests.paths import DATA

SHARED = DATA / "videos"


def numbered_frame(number: int, height: int = 40, width: int = 62) -> np.ndarray:
    """Grey, as bright as its number tells, with a red left half."""
    frame = np.full((height, width, 3), 5 * number, np.uint8)
    frame[:, : width // 2, 0] = 255
    return frame


def write_video(path: pathlib.Path, count: int, rate: float = 25.0, **size: int) -> pathlib.Path:
    with VideoWriter(path, rate) as video:
        for number in range(count):
            video.write(numbered_frame(number, **size))
    return path


def numbers(frames) -> list[int]:
    return [round(float(frame[5:, -10:, 1].mean()) / 5) for frame in frames]


@pytest.mark.parametrize("rate", [50.0, 24000 / 1001, 1000 * 45 / 2990])
def test_what_is_written_is_read_in_order_and_at_its_rate(tmp_path, rate):
    video = open_video(write_video(tmp_path / "a.mp4", 40, rate))
    assert video.rate == pytest.approx(rate, rel=1e-3)
    assert video.count == 40 and not video.live
    frames = list(video.frames())
    assert numbers(frames) == list(range(40))
    assert frames[0].shape == (40, 62, 3) and frames[0].dtype == np.uint8
    red, green, blue = frames[0][20, 10].astype(int)
    assert red > 200 and green < 60 and blue < 60  # RGB, not BGR
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_odd_sides_become_even(tmp_path):
    video = open_video(write_video(tmp_path / "a.mp4", 3, height=41, width=63))
    assert next(video.frames()).shape == (42, 64, 3)


def test_frames_are_written_several_times(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 25) as video:
        video.write(numbered_frame(10), times=3)
        video.write(numbered_frame(20))
    assert numbers(open_video(tmp_path / "a.mp4").frames()) == [10, 10, 10, 20]


def test_a_stopped_or_empty_video_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), VideoWriter(tmp_path / "a.mp4", 25) as video:
        video.write(numbered_frame(0))
        raise KeyError
    with VideoWriter(tmp_path / "b.mp4", 25):
        pass
    assert not os.listdir(tmp_path)


def test_a_video_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(UserError, match=r"Cannot write '.*absent.*a\.mp4'"),
        VideoWriter(tmp_path / "absent" / "a.mp4", 25) as video,
    ):
        video.write(numbered_frame(0))


def write_animation(path: pathlib.Path, durations: list[int]) -> pathlib.Path:
    first, *rest = (Image.fromarray(numbered_frame(n)) for n in range(len(durations)))
    first.save(path, save_all=True, append_images=rest, duration=durations, lossless=True)
    return path


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_animations_have_the_mean_rate_of_their_frames(tmp_path, suffix):
    path = write_animation(tmp_path / f"a.{suffix}", [60, 70, 70, 200])
    assert is_video(path)
    video = open_video(path)
    assert video.count == 4 and video.rate == pytest.approx(10)
    frames = list(video.frames())
    assert numbers(frames) == [0, 1, 2, 3] and frames[0].shape == (40, 62, 3)


@pytest.mark.parametrize(("suffix", "share"), [("gif", 0.55), ("png", 0.55), ("gif", 0.97)])
def test_an_animation_cut_short_gives_the_frames_before_the_cut(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (8, 40, 62, 3), np.uint8)
    first, *rest = map(Image.fromarray, noise)
    path = tmp_path / f"a.{suffix}"
    first.save(path, save_all=True, append_images=rest, duration=50)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    video, read = open_video(path), []
    assert video.rate == 20
    with pytest.raises(UserError, match=rf"a\.{suffix}' ends after \d frames"):
        read.extend(video.frames())
    assert len(read) == video.count == int(8 * share)


def test_an_animation_without_a_whole_frame_is_an_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 62, 3), np.uint8)
    first, second = map(Image.fromarray, noise)
    path = tmp_path / "a.png"
    first.save(path, save_all=True, append_images=[second])
    path.write_bytes(path.read_bytes()[:1000])
    assert is_video(path)
    with pytest.raises(UserError, match=r"a\.png': its first frame is damaged"):
        open_video(path)


def test_pictures_are_no_videos(tmp_path):
    for name in ("a.gif", "a.png", "a.webp"):
        Image.fromarray(numbered_frame(1)).save(tmp_path / name)
        assert not is_video(tmp_path / name)
    (tmp_path / "text.gif").write_text("no picture")
    assert not is_video(tmp_path / "text.gif")
    assert is_video("absent.MP4")


def test_what_cannot_be_read_is_named_with_the_reason(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.avi").write_text("no video" * 100)
    reasons = {
        "empty.mp4": "the file is empty",
        "text.avi": "not a video",
        "absent.mkv": "no such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=f"{name}.*{reason}"):
            open_video(tmp_path / name)


def write_avi(path: pathlib.Path, count: int) -> pathlib.Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (62, 40))
    for number in range(count):
        writer.write(np.ascontiguousarray(numbered_frame(number)[..., ::-1]))
    writer.release()
    return path


def test_a_video_cut_short_gives_the_frames_before_the_cut(tmp_path):
    path = write_avi(tmp_path / "a.avi", 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read = []
    with pytest.raises(UserError, match=r"a\.avi' ends after \d+ of its 40 frames"):
        read.extend(open_video(path).frames())
    assert 5 < len(read) < 30 and numbers(read) == list(range(len(read)))


def test_frames_are_not_kept(tmp_path):
    alive, most = set(), 0
    for number, frame in enumerate(open_video(write_video(tmp_path / "a.mp4", 50)).frames()):
        alive.add(number)
        weakref.finalize(frame, alive.remove, number)
        most = max(most, len(alive))
    assert most <= 2


def test_a_missing_webcam_is_an_error():
    with pytest.raises(UserError, match="--webcam 99: there is no such camera"), open_webcam(99):
        pass


def test_ctrl_c_ends_a_webcams_video(tmp_path, monkeypatch):
    path = str(write_avi(tmp_path / "a.avi", 40))
    capture = cv2.VideoCapture
    monkeypatch.setattr(video_files.cv2, "VideoCapture", lambda index: capture(path))
    usual = signal.getsignal(signal.SIGINT)
    read = []
    with open_webcam(0) as video:
        assert video.live and video.count is None and video.rate == 30
        for frame in video.frames():
            read.append(frame)
            if len(read) == 7:
                os.kill(os.getpid(), signal.SIGINT)
    assert numbers(read) == list(range(7))
    assert signal.getsignal(signal.SIGINT) is usual


def test_live_frames_fill_the_time_that_passed(monkeypatch):
    now = iter([100.0, 100.1, 100.4, 100.41])
    monkeypatch.setattr(video_files.time, "monotonic", lambda: next(now))
    pace = Pace(rate=10)
    # Written 1, 2 and 5 frames after 0.0, 0.1 and 0.4 s; a frame too soon is still shown.
    assert [pace.times() for _ in range(4)] == [1, 1, 3, 1]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no sample data beside the repository")
@pytest.mark.parametrize(
    ("name", "count", "rate"),
    [("classroom.gif", 45, 15.05), ("store_aisle.gif", 67, 14.99), ("street_crowd.avi", 205, 50)],
)
def test_real_videos_keep_their_length_and_rate(tmp_path, name, count, rate):
    video = open_video(SHARED / name)
    assert video.count == count and video.rate == pytest.approx(rate, abs=0.01)
    with VideoWriter(tmp_path / "a.mp4", video.rate) as copy:
        for frame in video.frames():
            copy.write(frame[::4, ::4])
    again = open_video(tmp_path / "a.mp4")
    assert again.count == count and again.rate == pytest.approx(rate, abs=0.01)
