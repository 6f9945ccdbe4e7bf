"""The prediction run: files to people, pictures and videos, a batch in memory at a time."""

import contextlib
import functools
import itertools
import pathlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from pinet_jax import methods, skeletons, visualize
from pinet_jax.data import RgbImage
from pinet_jax.errors import UserError
from pinet_jax.inference.fusion import People
from pinet_jax.inference.inspection import Inspector
from pinet_jax.inference.network_input import eval_size, plan_batches
from pinet_jax.inference.predictor import Predictor
from pinet_jax.media import images as image_files
from pinet_jax.media import videos as video_files
from pinet_jax.media.predictions import PredictionFiles
from pinet_jax.runtime import files
from pinet_jax.runtime.progress import Progress

WIDE = 4  # longer network inputs, in short sides, go alone: they need the memory of a batch
WIDEST = 64  # longer ones are refused


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


class Finder:
    """Finds the people in images of one size of the network's input.

    Args:
        config: of the model.
        variables: of the model.
    """

    def __init__(self, config: ConfigDict, variables: Mapping[str, Any]):
        self._config, self._variables = config, variables

    def __call__(self, images: Sequence[RgbImage]) -> list[People]:
        """The people of at most `batch_size` images; UserError if memory does not suffice."""
        height, width = images[0].shape[:2]
        alone = self.batch_size(height, width) == 1
        with _memory_errors_as_user_errors(height, width):
            return (self._alone if alone else self._together)(images)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the network's input; UserError for images too long for it."""
        size = eval_size(height, width, self._config)
        if max(size) > WIDEST * min(size):
            raise UserError(
                f"with {width}x{height} pixels it is more than {WIDEST} times as long as wide: "
                "cut it into pieces or set config.eval.square"
            )
        return size

    def batch_size(self, height: int, width: int) -> int:
        """How many images of this size go together: one where it is much longer than wide."""
        size = self.input_size(height, width)
        return 1 if max(size) > WIDE * min(size) else self._config.eval.batch_size

    @functools.cached_property
    def _together(self) -> Predictor:
        return Predictor(self._config, self._variables)

    @functools.cached_property
    def _alone(self) -> Predictor:
        if self._config.eval.batch_size == 1:
            return self._together
        config = self._config.copy_and_resolve_references()
        config.eval.batch_size = 1
        return Predictor(config, self._variables)


class Artist:
    """Draws the people of an image, and on demand how they were found.

    Args:
        config: of the model.
        variables: of the model.
        min_score: people of a lower score are not drawn.
        min_keypoint_score: keypoints of a lower score are not drawn.
        parts: draw `visualize.parts_page` too.
        heatmaps: draw `visualize.heatmaps_page` too.

    Attributes:
        kinds: of pictures drawn: "people", "parts", "heatmaps".
    """

    def __init__(
        self,
        config: ConfigDict,
        variables: Mapping[str, Any],
        min_score: float,
        min_keypoint_score: float,
        parts: bool,
        heatmaps: bool,
    ):
        self._skeleton = skeletons.of(config)
        self._parts = methods.of(config).parts(config)
        self._least = min_score, min_keypoint_score
        self._inspector = Inspector(config, variables) if parts or heatmaps else None
        wanted = {"people": True, "parts": parts, "heatmaps": heatmaps}
        self.kinds = [kind for kind in wanted if wanted[kind]]

    def __call__(self, image: RgbImage, people: People) -> dict[str, RgbImage]:
        """A picture of every kind; their sizes depend on the image's alone."""
        min_score, min_keypoint_score = self._least
        shown = np.asarray(people.scores) >= min_score
        found = people.keypoints[shown], people.keypoint_scores[shown], people.scores[shown]
        pictures = {
            "people": visualize.draw_people(image, *found, self._skeleton, min_keypoint_score)
        }
        if self._inspector is not None:
            with _memory_errors_as_user_errors(*image.shape[:2]):
                evidence = image, self._inspector(image), self._parts, self._skeleton
            if "parts" in self.kinds:
                pictures["parts"] = visualize.parts_page(*evidence, *self._least)
            if "heatmaps" in self.kinds:
                pictures["heatmaps"] = visualize.heatmaps_page(*evidence)
        return pictures


class Run:
    """One run of the program.

    Args:
        find: finds people.
        draw: draws them.
        predictions: where they are written.
        out: where the pictures go; the less usual kinds into folders there.
        names: of each file's picture, without suffix.

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
    ):
        self.find, self.draw, self.predictions, self.names = find, draw, predictions, names
        self.failures: list[UserError] = []
        self._folders = {
            kind: out if kind == "people" else files.make_folder(out / kind) for kind in draw.kinds
        }
        self._next_id = 1

    def predict_files(self, paths: Sequence[pathlib.Path], max_frames: int | None = None) -> None:
        """Images, numbered from 1 in the order of `paths`, then the frames of videos."""
        videos = [path for path in paths if video_files.is_video(path)]
        films = set(videos)
        self.predict_images([path for path in paths if path not in films])
        for path in videos:
            try:
                video = video_files.open_video(path)
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

        Two batches of frames are in memory at most. Of a damaged video the frames before
        the damage are kept.
        """
        total = min((n for n in (video.count, max_frames) if n is not None), default=None)
        entry = {"id": len(self.predictions.videos) + 1}
        frames = itertools.islice(self._until_failure(video.frames()), max_frames)
        pace = video_files.Pace(video.rate)
        count, failed_before = 0, len(self.failures)
        with self._writers(video) as writers, Progress(total, video.path.name) as progress:
            for image, people in self._found_in_frames(video.path, frames):
                record = _record(video.path, image)
                frame = {"id": self._next_id, "video_id": entry["id"], "frame": count}
                self.predictions.add(frame | record, people)
                times = pace.times() if video.live else 1
                for kind, picture in self.draw(image, people).items():
                    writers[kind].write(picture, times)
                count += times
                entry |= record | {"frame_rate": video.rate, "num_frames": count}
                self._next_id += 1
                progress.update()
        if count:
            self.predictions.videos.append(entry)
        elif len(self.failures) == failed_before:
            self.failures.append(UserError(f"'{video.path}' gave no picture."))

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

    def _until_failure(self, frames: Iterator[RgbImage]) -> Iterator[RgbImage]:
        try:
            yield from frames
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


def _record(path: pathlib.Path, image: RgbImage) -> dict[str, Any]:
    """What is said of an image beside its id."""
    height, width = image.shape[:2]
    return {"file_name": str(path), "width": width, "height": height}


def _cannot_predict(path: pathlib.Path, error: UserError) -> UserError:
    return UserError(f"Cannot predict '{path}': {error}.")


@contextlib.contextmanager
def _memory_errors_as_user_errors(height: int, width: int) -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            f"images of {width}x{height} pixels need more memory than there is: lower "
            "config.eval.input_size or config.eval.batch_size"
        ) from None
