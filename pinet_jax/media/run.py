"""The prediction run: files to people, pictures and videos, a batch in memory at a time."""

import contextlib
import itertools
import pathlib
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pinet_jax import visualize
from pinet_jax.data import RgbImage
from pinet_jax.errors import UserError
from pinet_jax.inference.fusion import People
from pinet_jax.inference.network_input import plan_batches
from pinet_jax.media import frame_folders
from pinet_jax.media import images as image_files
from pinet_jax.media import videos as video_files
from pinet_jax.media.finder import Artist, Finder
from pinet_jax.media.predictions import PredictionFiles
from pinet_jax.media.tracking import Tracking
from pinet_jax.runtime import files
from pinet_jax.runtime.progress import Progress
from pinet_jax.tracking.frames import Tracked


def picture_names(paths: Sequence[pathlib.Path], out: pathlib.Path) -> dict[pathlib.Path, str]:
    """What each file's picture or video is called: its stem, with a number where stems clash.

    Raises:
        UserError: a picture would replace one of the files.
    """
    sources = {path.resolve() for path in paths}
    names: dict[pathlib.Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        numbered = (f"{path.stem}_{number}" for number in itertools.count(2))
        names[path] = next(n for n in itertools.chain([path.stem], numbered) if n not in taken)
        taken.add(names[path])
        for picture in (out / f"{names[path]}.png", out / f"{names[path]}.mp4"):
            if picture.resolve() in sources:
                raise UserError(f"--out: '{picture}' is one of the images: name another folder.")
    return names


class Run:
    """One run of the program.

    Args:
        find: finds people.
        draw: draws them.
        predictions: where they are written.
        out: where the pictures go; the less usual kinds into folders there.
        names: of each file's picture, without suffix.
        tracking: keeps people's identities through videos; None: it does not.

    Attributes:
        failures: files that could not be predicted, and why.
    """

    def __init__(
        self,
        find: Finder,
        draw: Artist,
        predictions: PredictionFiles,
        out: pathlib.Path,
        names: Mapping[pathlib.Path, str],
        tracking: Tracking | None = None,
    ):
        self.find, self.draw, self.predictions, self.names = find, draw, predictions, names
        self.tracking = tracking
        self.failures: list[UserError] = []
        self._folders = {
            kind: out if kind == "people" else files.make_folder(out / kind) for kind in draw.kinds
        }
        self._next_id = 1

    def predict_files(self, paths: Sequence[pathlib.Path], max_frames: int | None = None) -> None:
        """Images, numbered from 1 in the order of `paths`, then the frames of videos."""
        videos = [path for path in paths if path.is_dir() or video_files.is_video(path)]
        films = set(videos)
        self.predict_images([path for path in paths if path not in films])
        for path in videos:
            try:
                opened = frame_folders.open_frames if path.is_dir() else video_files.open_video
                video = opened(path)
            except UserError as error:
                self.failures.append(error)
            else:
                self.predict_video(video, max_frames)

    def predict_images(self, paths: Sequence[pathlib.Path]) -> None:
        """Predicts images, those of one network size together."""
        if not paths:
            return
        ids = {path: image_id for image_id, path in enumerate(paths, start=self._next_id)}
        self._next_id += len(paths)
        with Progress(len(paths), "predict") as progress:
            for batch in self._batches(paths):
                for path, image, people in self._found_in_images(batch):
                    self.predictions.add({"id": ids[path], **_record(path, image)}, people)
                    for kind, picture in self.draw(image, people).items():
                        target = self._folders[kind] / f"{self.names[path]}.png"
                        visualize.save_png(picture, target)
                progress.update(len(batch))

    def predict_video(self, video: video_files.Video, max_frames: int | None = None) -> None:
        """Predicts the frames of a video and writes it anew, at the same rate.

        Two batches of frames are in memory at most, with tracking also those whose people are
        not decided yet. Of a damaged video the frames before the damage are kept.
        """
        total = min((n for n in (video.count, max_frames) if n is not None), default=None)
        entry = {"id": len(self.predictions.videos) + 1}
        frames = itertools.islice(self._until_failure(video.frames()), max_frames)
        pace = video_files.Pace(video.rate) if video.live else None
        found = _paced(self._found_in_frames(video.path, frames), pace, times := deque())
        count, index, failed_before = 0, 0, len(self.failures)
        with (
            self._writers(video) as writers,
            Progress(total, video.path.name) as progress,
            self._drawn(video, found) as drawn,
        ):
            for image, people, pictures in drawn:
                record = _record(video.file_of(index), image)
                frame = {"id": self._next_id, "video_id": entry["id"], "frame": count}
                self.predictions.add(frame | record, people)
                repeats = times.popleft()
                for kind, picture in pictures.items():
                    writers[kind].write(picture, repeats)
                index, count = index + 1, count + repeats
                entry |= _record(video.path, image)
                entry |= {"frame_rate": video.rate, "num_frames": count}
                self._next_id += 1
                progress.update()
        if count:
            self.predictions.videos.append(entry)
        elif len(self.failures) == failed_before:
            self.failures.append(UserError(f"'{video.path}' gave no picture."))

    @contextlib.contextmanager
    def _drawn(
        self, video: video_files.Video, found: Iterator[tuple[RgbImage, People]]
    ) -> Iterator[Iterator[tuple[RgbImage, People | Tracked, dict[str, RgbImage]]]]:
        """Frames with their people and pictures; with identities if they are wanted."""
        if self.tracking is None:
            yield ((image, people, self.draw(image, people)) for image, people in found)
            return
        path = self._folders["people"] / f"{self.names[video.path]}_tracks.json"
        with self.tracking.file(path) as tracks:
            yield self._tracked(video, self._until_failure(self.tracking.follow(found)), tracks)

    def _tracked(
        self, video: video_files.Video, followed: Iterable[tuple[RgbImage, Tracked]], tracks
    ) -> Iterator[tuple[RgbImage, Tracked, dict[str, RgbImage]]]:
        """Frames with their people and pictures, also written to the video's file of tracks."""
        trails: visualize.Trails = {}
        for number, (image, people) in enumerate(followed):
            tracks.add(_record(video.file_of(number), image), people)
            trails = visualize.longer_trails(
                trails, people.ids, people.keypoints, people.keypoint_scores
            )
            yield image, people, self.draw(image, people, trails)

    def _batches(self, paths: Sequence[pathlib.Path]) -> Iterator[list[pathlib.Path]]:
        """Images of one network size at a time."""
        for batch in plan_batches(map(self._size_and_count, paths), lambda size: size[1]):
            yield [paths[number] for number in batch]

    def _size_and_count(self, path: pathlib.Path) -> tuple[Hashable, int]:
        """An image's network size, and how many of that go together; of none, its own name."""
        try:
            size = image_files.image_size(path)
            return self.find.input_size(*size), self.find.batch_size(*size)
        except UserError:  # which it raises again when it is read
            return path, 1

    def _found_in_images(
        self, paths: Sequence[pathlib.Path]
    ) -> Iterator[tuple[pathlib.Path, RgbImage, People]]:
        """The images of a batch that can be read, with their people."""
        images = {}
        for path in paths:
            try:
                images[path] = image_files.read_image(path)
            except UserError as error:
                self.failures.append(error)
        if not images:
            return
        try:
            people = self.find(list(images.values()))
        except UserError as error:
            self.failures += [_cannot_predict(path, error) for path in images]
        else:
            yield from zip(images, images.values(), people, strict=True)

    def _found_in_frames(
        self, path: pathlib.Path, frames: Iterator[RgbImage]
    ) -> Iterator[tuple[RgbImage, People]]:
        """Frames with their people, in order."""
        for first in frames:
            try:
                more = self.find.batch_size(*first.shape[:2]) - 1
                batch = [first, *itertools.islice(frames, more)]
                people = self.find(batch)
            except UserError as error:
                self.failures.append(_cannot_predict(path, error))
                return
            yield from zip(batch, people, strict=True)

    def _until_failure(self, items: Iterable[Any]) -> Iterator[Any]:
        try:
            yield from items
        except UserError as error:
            self.failures.append(error)

    @contextlib.contextmanager
    def _writers(self, video: video_files.Video) -> Iterator[dict[str, video_files.VideoWriter]]:
        """A video to write for every kind of picture."""
        with contextlib.ExitStack() as stack:
            yield {
                kind: stack.enter_context(
                    video_files.VideoWriter(folder / f"{self.names[video.path]}.mp4", video.rate)
                )
                for kind, folder in self._folders.items()
            }


def _paced(
    found: Iterator[tuple[RgbImage, People]], pace: video_files.Pace | None, times: deque[int]
) -> Iterator[tuple[RgbImage, People]]:
    """The same; `times` takes how often each frame is to be written, as of when it was found."""
    for item in found:
        times.append(pace.times() if pace else 1)
        yield item


def _record(path: str | pathlib.Path, image: RgbImage) -> dict[str, Any]:
    """What is said of an image beside its id."""
    height, width = image.shape[:2]
    return {"file_name": str(path), "width": width, "height": height}


def _cannot_predict(path: pathlib.Path, error: UserError) -> UserError:
    return UserError(f"Cannot predict '{path}': {error}.")
