"""People from the ONNX models of a PINet: onnxruntime makes the maps, NumPy the people.

This file needs NumPy and onnxruntime alone and lies beside the models it was exported with:

    people = load("folder")(images, to_image)

Coordinates are (x, y) in heatmap pixels unless said otherwise.
"""

from __future__ import annotations

import bisect
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int, UInt8

SETTINGS = "settings.json"  # beside the models; export.py writes it

Run = Callable[..., list[np.ndarray]]  # a model's inputs, in order, to its outputs
People = dict[str, np.ndarray]


class Scale(NamedTuple):
    """The models of one scale.

    Attributes:
        scale: factor on the network's input.
        maps: uint8 RGB images [b, h, w, 3] to H and P of the b images, and to the offsets
            and the features of its views: the images, then, with the flip test, their
            mirror images.
        refine: features, poses and their part centres to what to subtract from the poses;
            None for a model without refinement.
    """

    scale: float
    maps: Run
    refine: Run | None


class Candidates(NamedTuple):
    """Poses before suppression, by part, then by falling part score.

    Attributes:
        poses: refined.
        part_scores: r_p of eq. 11; 0 where not valid.
        valid: whether there is a candidate.
    """

    poses: Float[np.ndarray, "b n k 2"]
    part_scores: Float[np.ndarray, "b n"]
    valid: Bool[np.ndarray, "b n"]


def load(folder: str, providers: Sequence[str] = ("CPUExecutionProvider",)) -> Predictor:
    """The models of an exported folder.

    Args:
        folder: as export.py wrote it.
        providers: onnxruntime's execution providers, the preferred one first.

    Raises:
        OSError: the folder does not hold an export.
    """
    import onnxruntime

    folder = pathlib.Path(folder)
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))

    def runner(name: str | None) -> Run | None:
        if name is None:
            return None
        session = onnxruntime.InferenceSession(folder / name, providers=list(providers))
        names = [model_input.name for model_input in session.get_inputs()]
        return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))

    models = settings["models"]
    return Predictor(
        settings, [Scale(m["scale"], runner(m["maps"]), runner(m["refine"])) for m in models]
    )


class Predictor:
    """Network inputs in, people out.

    Args:
        settings: what SETTINGS holds.
        scales: the models, in the order of settings["models"].

    Attributes:
        settings: as given.
    """

    def __init__(self, settings: Mapping[str, Any], scales: Sequence[Scale]):
        self.settings = settings
        self._scales = tuple(scales)

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "b _ _ 3"]], to_image: Float32[np.ndarray, "b 2 3"]
    ) -> list[People]:
        """The people of each image, by falling score.

        Args:
            images: network inputs, one array a scale; any number of images.
            to_image: affine maps from network-input pixels of scale 1 to image pixels.

        Returns:
            For each image "keypoints" [n, K, 2] in image pixels, "keypoint_scores" [n, K]
            and "scores" [n].
        """
        count, step = len(to_image), self.settings["batch"]
        people = []
        for start in range(0, count, step):
            rows = np.minimum(np.arange(start, start + step), count - 1)  # the last one fills up
            people += self._batch([image[rows] for image in images], to_image[rows])
        return people[:count]

    def _batch(self, images: Sequence[np.ndarray], to_image: np.ndarray) -> list[People]:
        settings = self.settings
        heatmaps, found = zip(*map(self._one_scale, self._scales, images), strict=True)
        scales = [scale.scale for scale in self._scales]
        found = comparable(found, scales, settings["scale_decrease"])
        stride = settings["stride"]
        poses = np.concatenate(
            [f.poses * np.float32(stride / s) for f, s in zip(found, scales, strict=True)], 1
        )
        scores = np.concatenate([f.part_scores for f in found], 1)[..., None]
        scores = scores * keypoint_scores(heatmaps, scales, poses, settings["size"], stride)
        valid = np.concatenate([f.valid for f in found], 1)
        poses = _apply_affine(to_image, poses)
        return [
            suppress_and_fuse(
                *(x[row][valid[row]] for x in (poses, scores)),
                np.float32(settings["sigmas"]),
                settings["oks_threshold"],
                settings["pose_fusion"],
            )
            for row in range(len(valid))
        ]

    def _one_scale(
        self, scale: Scale, images: UInt8[np.ndarray, "b _ _ 3"]
    ) -> tuple[Float[np.ndarray, "b h w k"], Candidates]:
        """Keypoint heatmaps and candidates; a pose is averaged over the views."""
        settings = self.settings
        heatmaps, part_heatmaps, offsets, features = scale.maps(images)
        window = peak_window(
            *part_heatmaps.shape[1:3], settings["peak_windows"], settings["peak_window_sides"]
        )
        peaks = [
            find_peaks(p, settings["max_peaks"], settings["peak_threshold"], window)
            for p in part_heatmaps
        ]
        centers, part_scores, valid = map(np.stack, zip(*peaks, strict=True))
        right = heatmaps.shape[2] - 1

        def mirror(points: np.ndarray) -> np.ndarray:
            return np.stack([right - points[..., 0], points[..., 1]], -1)

        keypoint_order, part_order = settings["flip_order"], settings["part_flip_order"]
        views = centers
        if settings["flip"]:  # left parts are right ones in the mirrored view
            views = np.concatenate([centers, mirror(centers)[:, part_order]])
        poses = read_poses(offsets, views)
        if scale.refine:
            delta = scale.refine(features, _join_parts(poses), _join_parts(views))[0]
            poses = poses - delta.reshape(poses.shape)
        if settings["flip"]:
            original, mirrored = np.split(poses, 2)
            mirrored = mirror(mirrored)[:, part_order][:, :, :, keypoint_order]
            poses = (original + mirrored) / 2
        return heatmaps, Candidates(*map(_join_parts, (poses, part_scores, valid)))


def peak_window(height: int, width: int, windows: Sequence[int], sides: Sequence[float]) -> int:
    """Side of the neighbourhood a peak rules on a map of this size, all in pixels.

    Args:
        height: of the map.
        width: of the map.
        windows: the sides there are, rising.
        sides: mean sides of a map above which each further window is the one, rising.
    """
    return windows[bisect.bisect_left(sides, (height + width) / 2)]


def find_peaks(
    part_heatmaps: Float[np.ndarray, "h w s"], max_peaks: int, threshold: float, window: int
) -> tuple[Int[np.ndarray, "s p 2"], Float[np.ndarray, "s p"], Bool[np.ndarray, "s p"]]:
    """Centres, scores and validity of each part's highest local maxima, by falling score.

    A peak is a pixel above `threshold` that equals the maximum of the window around it, of the
    odd side `window`; of equal ones the first in row order is kept.
    """
    _, width, parts = part_heatmaps.shape
    rim = window // 2
    padded = np.pad(part_heatmaps, ((rim, rim), (rim, rim), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (window, window), (0, 1))
    is_peak = (part_heatmaps == windows.max((-2, -1))) & (part_heatmaps > threshold)
    ranked = np.where(is_peak, part_heatmaps, -np.inf).reshape(-1, parts).T
    index = np.argsort(-ranked, 1, kind="stable")[:, :max_peaks]
    scores = np.take_along_axis(ranked, index, 1)
    centers = np.stack([index % width, index // width], -1).astype(np.int32)
    valid = scores > threshold
    return centers, np.where(valid, scores, 0).astype(np.float32), valid


def read_poses(
    offsets: Float[np.ndarray, "b h w s k 2"], centers: Int[np.ndarray, "b s p 2"]
) -> Float[np.ndarray, "b s p k 2"]:
    """The pose each part centre proposes, center - O_s(center) (PINet eqs. 6 and 12)."""
    image, part = np.arange(centers.shape[0])[:, None, None], np.arange(centers.shape[1])[:, None]
    read = offsets[image, centers[..., 1], centers[..., 0], part]
    return centers[..., None, :].astype(np.float32) - read


def comparable(
    found: Sequence[Candidates], scales: Sequence[float], decrease: float
) -> list[Candidates]:
    """Part scores of each scale, their largest brought to the largest of scale 1.

    An image without a peak at scale 1, or models without scale 1, count as 1 there.
    """
    largest = [
        np.where(f.valid.any(1, keepdims=True), f.part_scores.max(1, keepdims=True), 1)
        for f in found
    ]
    at_one = largest[scales.index(1)] if 1 in scales else 1
    return [
        f if scale == 1 else f._replace(part_scores=f.part_scores / top * at_one * decrease)
        for f, top, scale in zip(found, largest, scales, strict=True)
    ]


def keypoint_scores(
    heatmaps: Sequence[Float[np.ndarray, "b _ _ k"]],
    scales: Sequence[float],
    poses: Float[np.ndarray, "b n k 2"],
    size: Sequence[int],
    stride: int,
) -> Float[np.ndarray, "b n k"]:
    """r_k of eq. 11: mean over the scales of H at each keypoint, 0 outside the map.

    Args:
        heatmaps: H of every scale.
        scales: of the heatmaps.
        poses: (x, y) in network-input pixels of scale 1.
        size: height and width of the network input of scale 1.
        stride: network-input pixels a heatmap pixel.
    """
    reads = [
        read_heatmaps(maps, poses * np.float32(scale / stride))
        for maps, scale in zip(heatmaps, scales, strict=True)
    ]
    height, width = size
    inside = ((poses > -1) & (poses < np.array([width, height]) - 1)).all(-1)
    return np.where(inside, sum(reads) / len(reads), 0)


def read_heatmaps(
    heatmaps: Float[np.ndarray, "b h w k"], points: Float[np.ndarray, "b n k 2"]
) -> Float[np.ndarray, "b n k"]:
    """Bilinear value of heatmap k at point k; the last row and column go on beyond the map."""
    batch, height, width, keypoints = heatmaps.shape
    size = np.array([width, height])
    points = np.clip(points, -1, size - 1).astype(np.float32)
    corner = np.clip(np.floor(points).astype(int), 0, np.maximum(size - 2, 0))
    fx, fy = np.moveaxis(points - corner.astype(np.float32), -1, 0)
    image, channel = np.arange(batch)[:, None, None], np.arange(keypoints)

    def corner_values(dx: int, dy: int) -> np.ndarray:
        x, y = np.moveaxis(np.minimum(corner + np.array([dx, dy]), size - 1), -1, 0)
        return heatmaps[image, y, x, channel]

    top = (1 - fx) * corner_values(0, 0) + fx * corner_values(1, 0)
    bottom = (1 - fx) * corner_values(0, 1) + fx * corner_values(1, 1)
    return (1 - fy) * top + fy * bottom


def suppress_and_fuse(
    poses: Float[np.ndarray, "n k 2"],
    scores: Float[np.ndarray, "n k"],
    sigmas: Float[np.ndarray, " k"],
    oks_threshold: float,
    pose_fusion: bool,
) -> People:
    """Candidates to people (PINet eq. 11 and Algorithm 1): groups of similar poses.

    Args:
        poses: in image pixels.
        scores: r = r_p * r_k of their keypoints.
        sigmas: the skeleton's constants.
        oks_threshold: a candidate with a larger OKS joins the group's leader, its first.
        pose_fusion: take each keypoint from the member surest of it; else the leader's.
    """
    order = np.argsort(-scores.mean(-1), kind="stable")
    poses, scores = poses[order], scores[order]
    similar = (oks_matrix(poses, sigmas) > oks_threshold) | np.eye(len(poses), dtype=bool)
    free = np.ones(len(poses), bool)
    sources = []  # of each person's keypoints: indices of candidates
    for leader in range(len(poses)):
        if free[leader]:
            members = np.flatnonzero(free & similar[leader])
            free[members] = False
            surest = scores[members].argmax(0) if pose_fusion else np.zeros(len(sigmas), int)
            sources.append(members[surest])
    index = np.array(sources, int).reshape(-1, len(sigmas))
    fused = np.take_along_axis(scores, index, 0)
    order = np.argsort(-fused.mean(-1), kind="stable")
    keypoints = np.take_along_axis(poses, index[..., None], 0)[order]
    return {
        "keypoints": keypoints,
        "keypoint_scores": fused[order],
        "scores": fused[order].mean(-1),
    }


def oks_matrix(
    poses: Float[np.ndarray, "n k 2"], sigmas: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "n n"]:
    """Object keypoint similarity of every two poses, their mean area as the scale."""
    area = (poses.max(1) - poses.min(1)).prod(-1)
    mean_area = np.maximum((area[:, None] + area) / 2, np.finfo(np.float32).tiny)
    distance2 = ((poses[:, None] - poses) ** 2).sum(-1)
    return np.exp(-distance2 / (2 * sigmas) ** 2 / mean_area[..., None] / 2).mean(-1)


def _join_parts(x: np.ndarray) -> np.ndarray:
    """[b, s, p, ...] to [b, s * p, ...]."""
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def _apply_affine(
    affine: Float[np.ndarray, "b 2 3"], points: Float[np.ndarray, "b n k 2"]
) -> np.ndarray:
    affine = affine[:, None, None]
    return (affine[..., :2] * points[..., None, :]).sum(-1) + affine[..., 2]
