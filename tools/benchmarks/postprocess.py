"""From maps to finished people: against a forward pass, and as candidates grow."""

from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.inference.fusion import join
from pinet_jax.methods.peaks import find_peaks, peak_window
from pinet_jax.methods.pinet.decoding import keypoint_scores, read_poses
from tools.benchmarks import predict, timing

CANDIDATES = (1, 10, 30, 90)


def tables(config: ConfigDict, rounds: int) -> Iterator[str]:
    """Peaks, poses, scores, suppression and fusion, without the refinement's layers."""
    size = config.eval.input_size
    variants = [finish(config, size, n) for n in CANDIDATES]
    measured = timing.measure([predict.forward(config, 1, size), *variants], rounds)
    title = f"peaks to people, one image at {size}"
    yield timing.table(f"{title}, beside a forward pass", measured, config.dtype, "forward")
    # By themselves: the first one after a forward pass finds nothing in the caches.
    yield timing.table(title, timing.measure(variants, rounds), config.dtype)


def finish(config: ConfigDict, size: int, count: int) -> timing.Variant:
    """The post-processing of one image with `count` candidates."""
    skeleton = skeletons.of(config)
    num_parts = len(skeleton.parts(config.model.partition))
    side, keypoints = size // HEATMAP_STRIDE, skeleton.num_keypoints
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, 8, (1, side, side, num_parts, keypoints, 2)).astype(np.float32)
    heatmaps = rng.random((1, side, side, keypoints), np.float32)

    window = peak_window(side, side, config.eval.peak_windows, config.eval.peak_window_sides)

    def run(parts, heatmaps, offsets):
        peaks = find_peaks(parts, config.eval.max_peaks, config.eval.peak_threshold, window)
        poses = read_poses(offsets, peaks.centers).reshape(1, -1, keypoints, 2) * HEATMAP_STRIDE
        scores = keypoint_scores([heatmaps], (1.0,), poses, (size, size))
        scores = scores * peaks.scores.reshape(1, -1, 1)
        valid = peaks.valid.reshape(1, -1)
        settings = (config.eval.oks_threshold, config.eval.pose_fusion)
        return join(poses, scores, valid, skeleton.sigmas, *settings)[0]

    peaks = _peaks(rng, side, num_parts, count, window)
    return timing.program(f"{count} candidates", run, peaks, heatmaps, offsets)


def _peaks(
    rng: np.random.Generator, side: int, num_parts: int, count: int, step: int
) -> np.ndarray:
    """Part heatmaps with `count` peaks in all, none in another's neighbourhood."""
    maps = np.zeros((1, side, side, num_parts), np.float32)
    cells = rng.permutation((side // step) ** 2)[: -(-count // num_parts)]
    for number in range(count):
        row, column = divmod(int(cells[number // num_parts]), side // step)
        maps[0, row * step, column * step, number % num_parts] = rng.uniform(0.1, 1)
    return maps
