"""What a study shows: its tables as text and JSON, its pictures and report.html."""

import json
import math
import pathlib
from collections.abc import Iterator, Mapping

from ml_collections import ConfigDict

from pinet_jax import visualize
from pinet_jax.evaluation.report import page
from pinet_jax.runtime import files, tables
from pinet_jax.studies import pictures, rows, verdicts
from pinet_jax.studies.scoring import METRICS, RowScores
from pinet_jax.studies.statistics import MISSING, Interval
from pinet_jax.studies.verdicts import Finding, findings
from pinet_jax.visualize import figures

Known = Mapping[str, RowScores]  # by the row's name

HOW_ROWS = (
    "AP, AP50, AP75 in percent, means over seeds, on the held-out scenes; ± is half the "
    "interval over seeds and images. The published figures are of OCHuman, and of a network "
    "trained for longer: their order is what compares, not their height."
)
HOW_CLAIMS = (
    "Differences of AP with their intervals, by a paired bootstrap over seeds and images (images "
    "alone where the rows share their weights). held: all of the interval is above 0; reversed: "
    "below; not resolved: it holds 0; not settled: the difference changed its sign in the last "
    "part of the training."
)


ROWS, BY_IOU, OCCLUSION, STAGES = "rows.png", "by_iou.png", "occlusion.png", "stages.png"
PICTURES = {  # file -> heading in the report
    ROWS: "Rows beside the paper's",
    BY_IOU: "AP by crowding",
    OCCLUSION: "What the parts of a partition show",
    STAGES: "From proposals to people",
}


def write(config: ConfigDict, out: pathlib.Path, known: Known) -> None:
    """Prints the tables and writes study.json, rows.png, by_iou.png and report.html.

    The page also has the other PICTURES that are in `out`.
    """
    claims = findings(known, config)
    row_table, claim_table = rows_table(known, config), claims_table(claims)
    print(f"\n{tables.aligned(row_table)}\n\n{tables.aligned(claim_table)}", flush=True)
    warning = verdicts.warn_of_spread(known, config)
    if warning:
        print(f"\n{warning}", flush=True)
    content = as_json(known, claims, config)
    files.write_text(out / "study.json", json.dumps(content, indent=2) + "\n")
    if not known:
        return
    visualize.save_png(pictures.bars(known, config), out / ROWS)
    visualize.save_png(pictures.by_level(known, config), out / BY_IOU)
    blocks = [
        page.heading("Rows"),
        page.table(row_table[0], row_table[1:]),
        page.note(HOW_ROWS),
        page.heading("Claims"),
        page.table(claim_table[0], claim_table[1:]),
        page.note(" ".join([HOW_CLAIMS, warning]).strip()),
        *_pictures(out),
        page.heading("Config"),
        page.details("all fields", config.to_json_best_effort(indent=2)),
    ]
    files.write_text(out / "report.html", page.page("The paper's experiments", blocks))


def _pictures(out: pathlib.Path) -> Iterator[str]:
    for name, title in PICTURES.items():
        if (out / name).is_file():
            yield page.heading(title)
            yield page.diagram((out / name).read_bytes(), title, figures.DPI)


def rows_table(known: Known, config: ConfigDict) -> list[list[str]]:
    """A line a row under a head: published scores, ours, how they came and how sure they are."""
    shares = config.study.scored_at[:-1]
    head = ["row", "tables", *(f"paper {name}" for name in METRICS), *METRICS, "±", "seeds"]
    lines = [head + [f"AP at {share:g}" for share in shares]]
    for row in rows.ROWS:
        if row.name not in known:
            continue
        found = known[row.name]
        lines.append(
            [
                row.title,
                row.tables or "-",
                *("-" if value is None else f"{value:.1f}" for value in row.published),
                *(_percent(found.metrics[name]) for name in METRICS),
                _percent(verdicts.spread(found, config).half),
                str(len(found.seeds)),
                *(_percent(found.at[share].mean()) for share in shares),
            ]
        )
    return lines


def claims_table(claims: list[Finding]) -> list[list[str]]:
    """A line a claim whose rows were run under a head: difference, interval, verdict."""
    lines = [["claim", "AP", "interval", "expected", "verdict"]]
    for claim in claims:
        if claim.found is not None:
            value, interval = _signed(claim.found)
            lines.append([claim.text, value, interval, claim.weight, claim.verdict])
    return lines


def as_json(known: Known, claims: list[Finding], config: ConfigDict) -> dict:
    """All numbers, and the config that they are of."""
    return {
        "rows": {
            name: {
                "training": found.row.training,
                "pose_fusion": found.row.fusion,
                "published": dict(zip(METRICS, found.row.published, strict=True)),
                "seeds": list(found.seeds),
                **found.metrics,
                "half_interval": verdicts.spread(found, config).half,
                "AP_by_share": {f"{s:g}": ap.tolist() for s, ap in found.at.items()},
                "AP_by_box_iou": {f"{iou:g}": s.ap.tolist() for iou, s in found.by_level.items()},
            }
            for name, found in known.items()
        },
        "claims": [
            {
                "claim": claim.text,
                "rows": claim.rows,
                "expected": claim.weight,
                "verdict": claim.verdict,
                **({} if claim.found is None else vars(claim.found)),
            }
            for claim in claims
            if claim.verdict != MISSING
        ],
        "config": json.loads(config.to_json_best_effort()),
    }


def _percent(value: float) -> str:
    return "-" if math.isnan(value) or value < 0 else f"{100 * value:.1f}"


def _signed(found: Interval) -> tuple[str, str]:
    """The difference and its interval in percent."""
    return f"{100 * found.value:+.1f}", f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
