"""Trains the correspondence network of pose tracking on still images.

    tools/train_correspondences.py --config configs/correspondences.py --workdir DIR
        [--out FILE.npz] [--checkpoint MODEL]

On stills of the synthetic crowd and, where --config.dataset.data_dir names a dataset with
keypoints, on those of its --config.dataset.train_split too. Started again on the same workdir,
with the same model, seed and batch size, it goes on from the newest checkpoint. FILE.npz
(DIR/correspondences.npz) is what --config.tracking.weights takes; the package's own weights were
made by this command with COCO stills. With --checkpoint the features are read off the map of that
model's backbone, which stays as it is, for --config.tracking.features=shared with that model. At
the end the network is checked on held-out pairs, beside an untrained one.
"""

import functools
import pathlib
import sys
from collections.abc import Callable, Sequence

import jax
from absl import flags
from ml_collections import ConfigDict

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))  # need not be installed

from input_pipeline import still_pairs
from pinet_jax import program
from pinet_jax.config import save_config, with_fields
from pinet_jax.errors import UserError
from pinet_jax.inference.backbone_maps import BackboneMaps
from pinet_jax.runtime import files, tables
from pinet_jax.runtime.progress import Progress
from pinet_jax.tracking.correspondences import network, training, weights
from pinet_jax.tracking.correspondences.losses import Pairs
from pinet_jax.weights import reading
from pinet_jax.weights.checkpoints import Checkpoints

WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints and the config.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Model whose backbone's map the features are read off."
)
OUT = flags.DEFINE_string("out", None, "Weights to write; WORKDIR/correspondences.npz if absent.")

Kinds = dict[str, still_pairs.Stills]
See = Callable[[Pairs], Pairs]  # what the network sees of views


def main(_: list[str]) -> None:
    """Runs the program."""
    if not WORKDIR.value:
        raise UserError("--workdir is missing: name a folder for the checkpoints.")
    config, maps = _shared(program.config_from_flags(), CHECKPOINT.value)
    workdir = files.make_folder(WORKDIR.value)
    out = files.to_path(OUT.value) if OUT.value else workdir / "correspondences.npz"
    net = network.build(config)
    see = functools.partial(_seen, maps) if maps else lambda pairs: pairs
    state = train(net, config, workdir, see, _origin(config, maps))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    weights.save(out, variables, config, maps.fingerprint if maps else "")
    print(f"wrote {out}: {weights.count(variables):,} parameters\n")
    print(_checked(net, variables, config, see))


def _shared(config: ConfigDict, checkpoint: str | None) -> tuple[ConfigDict, BackboneMaps | None]:
    """The config and the maps of features that a model shares, if one is named."""
    if not checkpoint:
        if config.tracking.features == "shared":
            raise UserError("--checkpoint is missing: name the model that shares its features.")
        return config, None
    of_model, variables = reading.load_variables(checkpoint)
    config = with_fields(config, {"tracking.features": "shared"})
    with config.unlocked():
        config.model = of_model.model
    return config, BackboneMaps(of_model, variables)


def _seen(maps: BackboneMaps, pairs: Pairs) -> Pairs:
    """Pairs of what the backbone makes of views."""
    return pairs.replace(view_a=maps(pairs.view_a), view_b=maps(pairs.view_b))


_FLAGS = {
    "seed": "--config.seed",
    "batch_size": "--config.train.batch_size",
    "backbone": "--checkpoint",
}


def _origin(config: ConfigDict, maps: BackboneMaps | None) -> reading.Position:
    """What a training cannot change when it goes on, as its checkpoints keep it."""
    return {
        "seed": config.seed,
        "batch_size": config.train.batch_size,
        "backbone": int(maps.fingerprint, 16) if maps else 0,
    }


def _check_origin(saved: reading.Position, wanted: reading.Position, workdir: pathlib.Path) -> None:
    for name, value in saved.items():
        if value != wanted[name]:
            raise UserError(
                f"The training in '{workdir}' cannot go on: it was begun with another "
                f"{_FLAGS[name]}; give the same again, or another --workdir."
            )


def train(
    net: network.CorrespondenceNet,
    config: ConfigDict,
    workdir: pathlib.Path,
    see: See,
    origin: reading.Position,
) -> training.TrainState:
    """Both stages, from the newest checkpoint if there is any."""
    total, every = training.total_steps(config), config.train.checkpoint_every
    state = training.create_state(net, config)
    with Checkpoints(workdir, config.train.keep_checkpoints) as saved:
        newest = saved.latest_step()
        if newest is not None:
            _check_origin(saved.position(newest), origin, workdir)
            state = saved.restore(state)
        save_config(workdir, config)
        first = int(state.step)
        if first == total:
            return state
        pairs = still_pairs.batches(config, [*_stills(config, held_out=False).values()], first)
        stage = None
        with Progress(total, "train", start=first) as progress:
            for number in range(first, total):
                if stage != training.stage_of(config, number):
                    stage = training.stage_of(config, number)
                    step = training.make_step(net, config, stage)
                    if number == config.correspondences.affinity_steps:
                        state = training.enter_refinement(state, config)
                state, metrics = step(state, see(next(pairs)))
                done = number + 1
                log = done % config.train.log_every == 0 or done == total
                progress.update(**(jax.device_get(metrics) if log else {}))
                if done % every == 0 or done == total:
                    saved.save(state, origin)
    return state


def _stills(config: ConfigDict, held_out: bool) -> Kinds:
    """Synthetic stills and, where a dataset is named, its own."""
    count = config.correspondences.num_checks if held_out else config.stills.num_synthetic
    split = "val" if held_out else "train"
    kinds: Kinds = {"synthetic": still_pairs.synthetic(config, split, count)}
    if config.dataset.data_dir:
        name = config.dataset.eval_split if held_out else config.dataset.train_split
        kinds[config.dataset.name] = still_pairs.Annotated(config, name)
    return kinds


def _checked(net: network.CorrespondenceNet, variables: dict, config: ConfigDict, see: See) -> str:
    """The self-check as a table: of the trained network and of an untrained one."""
    fresh = training.create_state(net, config)
    untrained = {"params": fresh.params, "batch_stats": fresh.batch_stats}
    rows: list[Sequence[str]] = [_HEADS]
    for kind, stills in _stills(config, held_out=True).items():
        for name, which in (("untrained", untrained), ("trained", variables)):
            pairs = still_pairs.held_out(config, stills, config.correspondences.num_checks)
            rows.append([f"{kind}, {name}", *_row(training.check(net, which, map(see, pairs)))])
    return tables.aligned(rows)


_HEADS = ("held-out pairs", "joints", "A finds", "R finds", "R of seen", "R of absent")


def _row(scores: dict[str, float]) -> list[str]:
    shares = ("affinity", "refinement", "r_positive", "r_absent")
    return [f"{scores['positives']:,.0f}", *(f"{scores[name]:.3f}" for name in shares)]


if __name__ == "__main__":
    program.run(main)
