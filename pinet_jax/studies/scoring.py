"""Scores of a study: of each results file, kept beside it, and of the rows made of them."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.evaluation.resampling import draws
from pinet_jax.evaluation.results import read_results
from pinet_jax.evaluation.scoring import match
from pinet_jax.runtime import files
from pinet_jax.studies import runs
from pinet_jax.studies.rows import Row
from pinet_jax.studies.runs import FINAL, Run
from pinet_jax.studies.statistics import Scores, drawn_precision

DRAWS_SEED = 0  # of the bootstrap's images; the same for all rows
METRICS = ("AP", "AP50", "AP75")

Annotations = Callable[[float | None], pathlib.Path]  # of a level's scenes; None: the study's own


@dataclasses.dataclass(frozen=True)
class RowScores:
    """What is known of a row.

    Attributes:
        row: which.
        seeds: that were run, s of them from 0 up.
        metrics: METRICS at the end of the training, in [0, 1], means over seeds.
        at: AP of each seed by the share of the training.
        final: AP at its end, with draws.
        by_level: the same by the box IoU of other scenes.
    """

    row: Row
    seeds: tuple[int, ...]
    metrics: Mapping[str, float]
    at: Mapping[float, Float[np.ndarray, " s"]]
    final: Scores
    by_level: Mapping[float, Scores]

    def first(self, count: int) -> "RowScores":
        """The same of the first seeds alone; `metrics` stay."""
        return dataclasses.replace(
            self,
            seeds=self.seeds[:count],
            at={share: ap[:count] for share, ap in self.at.items()},
            final=self.final.first(count),
            by_level={level: scores.first(count) for level, scores in self.by_level.items()},
        )


def score_run(config: ConfigDict, run: Run, out: pathlib.Path, annotations: Annotations) -> None:
    """Writes the scores of every results file of a run that has none yet."""
    for share, level in runs.to_predict(config):
        for fused in runs.FUSED:
            results = runs.results_file(run, out, share, fused, level)
            if not _scores_file(results).is_file():
                found = _score(config, results, annotations(level), with_draws=share == FINAL)
                with files.replacing(_scores_file(results)) as temporary:
                    np.savez(temporary, **found)


def is_scored(config: ConfigDict, run: Run, out: pathlib.Path) -> bool:
    """Whether nothing of a run is left to do."""
    return all(
        _scores_file(runs.results_file(run, out, share, fused, level)).is_file()
        for share, level in runs.to_predict(config)
        for fused in runs.FUSED
    )


def row_scores(config: ConfigDict, row: Row, seeds: Sequence[int], out: pathlib.Path) -> RowScores:
    """The scores of a row whose runs with these seeds are scored."""
    study = config.study

    def read(share: float, level: float | None = None) -> list[Mapping[str, np.ndarray]]:
        return [_read(Run(row.training, s), out, share, row.fusion, level) for s in seeds]

    final = read(FINAL)
    return RowScores(
        row=row,
        seeds=tuple(seeds),
        metrics={name: float(np.mean([found[name] for found in final])) for name in METRICS},
        at={share: np.array([found["AP"] for found in read(share)]) for share in study.scored_at},
        final=_joined(final),
        by_level={level: _joined(read(FINAL, level)) for level in study.levels},
    )


def _score(
    config: ConfigDict, results: pathlib.Path, annotations: pathlib.Path, with_draws: bool
) -> dict[str, Float[np.ndarray, "..."]]:
    """METRICS, and AP on each draw of images."""
    scorer = match(
        read_results(results),
        annotations,
        skeletons.of(config),
        config.eval.max_detections,
        name=f"'{results}'",
    )
    found = {name: np.array(value) for name, value in scorer.scores(METRICS).items()}
    if with_draws:
        tally = scorer.tally()
        repeats = draws(len(tally.persons), config.study.draws, DRAWS_SEED)
        found["drawn"] = drawn_precision(tally, repeats)
    return found


def _scores_file(results: pathlib.Path) -> pathlib.Path:
    return results.with_suffix(".scores.npz")


def _read(
    run: Run, out: pathlib.Path, share: float, fused: bool, level: float | None
) -> Mapping[str, np.ndarray]:
    with np.load(_scores_file(runs.results_file(run, out, share, fused, level))) as found:
        return dict(found)


def _joined(found: Sequence[Mapping[str, np.ndarray]]) -> Scores:
    """The scores of several seeds."""
    return Scores(np.array([f["AP"] for f in found]), np.stack([f["drawn"] for f in found]))
