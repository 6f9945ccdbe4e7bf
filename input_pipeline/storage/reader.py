"""Prepared datasets: making them once, and reading their examples in any order."""

import bisect
import contextlib
import dataclasses
import fcntl
import functools
import io
import itertools
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from input_pipeline.quiet_tf import tfds
from pinet_jax.errors import UserError
from pinet_jax.runtime import files

# EXIF rotation is ignored: annotations are made on the pixels as they are stored.
DECODE_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

FILE_FORMAT = "array_record"  # of TFDS; read in any order


@dataclasses.dataclass(frozen=True)
class Example:
    """An image and its persons.

    Attributes:
        image: RGB.
        ignore_mask: 255 where the loss must not look.
        image_id: of the source.
        file_name: of the source.
        keypoints: x, y in image pixels, v in {0, 1, 2}.
        bbox: x, y, width, height, image pixels.
        area: image pixels squared.
        ids: of the persons' annotations.
    """

    image: UInt8[np.ndarray, "h w 3"]
    ignore_mask: UInt8[np.ndarray, "h w"]
    image_id: int
    file_name: str
    keypoints: Float[np.ndarray, "n k 3"]
    bbox: Float[np.ndarray, "n 4"]
    area: Float[np.ndarray, " n"]
    ids: Int[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Index:
    """What is known of every example without decoding it, in the order of the file."""

    image_id: Int[np.ndarray, " e"]
    height: Int[np.ndarray, " e"]
    width: Int[np.ndarray, " e"]
    num_keypoints: Int[np.ndarray, " e"]  # labelled, all persons together


@runtime_checkable
class Split(Protocol):
    """Random access to the examples of a split, or of several joined."""

    index: Index

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Example: ...


class LocalBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A TFDS builder that downloads nothing."""

    # Otherwise TFDS looks for checksum files, through a package that it does not require.
    url_infos: ClassVar[dict] = {}


class PreparedSplit:
    """Random access to one split of a prepared dataset; safe from several threads."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        self._records = builder.as_data_source(
            split,
            decoders={
                "image": tfds.decode.SkipDecoding(),
                "ignore_mask": tfds.decode.SkipDecoding(),
            },
        )
        # TFDS reads a sequence as a list, of which an empty one has lost its shape.
        self._keypoints_shape = (-1, *builder.info.features["persons"]["keypoints"].shape)
        self._index_path = pathlib.Path(builder.data_dir) / f"index_{split}.npz"

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> Example:
        record = self._records[number]
        persons = record["persons"]
        return Example(
            image=decode_image(record["image"]),
            ignore_mask=cv2.imdecode(_buffer(record["ignore_mask"]), cv2.IMREAD_GRAYSCALE),
            image_id=int(record["image_id"]),
            file_name=record["file_name"].decode(),
            keypoints=np.reshape(persons["keypoints"], self._keypoints_shape).astype(np.float32),
            bbox=np.reshape(persons["bbox"], (-1, 4)).astype(np.float32),
            area=np.asarray(persons["area"], np.float32),
            ids=np.asarray(persons["id"], np.int64),
        )

    @functools.cached_property
    def index(self) -> Index:
        """Read from its file, or made from the records and kept beside them."""
        if self._index_path.exists():
            with np.load(self._index_path) as file:
                return Index(**file)
        columns = [_index_row(record) for record in self._records]
        index = Index(*np.array(columns, np.int64).reshape(-1, 4).T)
        with (
            contextlib.suppress(UserError),  # somebody else's folder: made again next time
            files.replacing(self._index_path) as temporary,
        ):
            np.savez(temporary, **dataclasses.asdict(index))
        return index


class JoinedSplit:
    """Several splits, one behind the other."""

    def __init__(self, splits: Sequence[PreparedSplit]):
        self._splits = splits
        self._ends = list(itertools.accumulate(map(len, splits)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> Example:
        if not 0 <= number < len(self):
            raise IndexError(f"No example {number} among {len(self)}.")
        place = bisect.bisect_right(self._ends, number)
        split = self._splits[place]
        return split[number - self._ends[place] + len(split)]

    @functools.cached_property
    def index(self) -> Index:
        """Those of the splits, one behind the other."""
        fields = [field.name for field in dataclasses.fields(Index)]
        columns = ([getattr(split.index, name) for split in self._splits] for name in fields)
        return Index(*map(np.concatenate, columns))


def decode_image(encoded: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels of an image file's bytes."""
    return cv2.cvtColor(cv2.imdecode(_buffer(encoded), DECODE_FLAGS), cv2.COLOR_BGR2RGB)


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Runs the builder unless its files are there already.

    Only one process prepares a folder at a time. TFDS writes into a folder of another
    name and renames it when done, so what an interruption leaves is never mistaken for
    a dataset; it is deleted here.

    Raises:
        UserError: the folder cannot be written to, or the builder found bad data.
    """
    final = pathlib.Path(builder.data_dir)
    if not final.exists():
        with locked(final.parent):
            if not final.exists():
                _make(builder)
    if not builder.info.splits:  # made by another process since this builder looked
        builder.info.set_file_format(FILE_FORMAT, override=True)
        builder.info.read_from_directory(builder.data_dir)


def _make(builder: tfds.core.DatasetBuilder) -> None:
    for leftover in pathlib.Path(builder.data_dir).parent.glob("incomplete.*"):
        shutil.rmtree(leftover)
    with (
        contextlib.redirect_stdout(io.StringIO()),  # TFDS announces itself there
        tempfile.TemporaryDirectory() as nothing_downloaded,
    ):
        builder.download_and_prepare(
            download_dir=nothing_downloaded,
            file_format=FILE_FORMAT,
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Inside, no other process is; UserError if the folder cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise UserError(
            f"Cannot write prepared data to {folder} ({error.strerror}): "
            "name another folder (--config.dataset.prepared_dir, or --data_dir of "
            "input_pipeline.prepare)."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _index_row(record: Mapping[str, Any]) -> tuple[int, int, int, int]:
    labelled = sum(int(np.count_nonzero(k[:, 2] > 0)) for k in record["persons"]["keypoints"])
    return record["image_id"], record["height"], record["width"], labelled


def _buffer(encoded: bytes) -> np.ndarray:
    return np.frombuffer(encoded, np.uint8)
