"""The forward pass and the training step beside PyTorch's of the same network, on the CPU.

PyTorch has a process of its own.
"""

from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE, normalise
from pinet_jax.errors import UserError
from pinet_jax.methods.pinet import losses
from pinet_jax.methods.pinet import network as pinet
from pinet_jax.weights import convert
from tools.benchmarks import crowds, elsewhere, predict, timing, train

BATCHES = (1, 2, 8)  # of which those up to config.train.batch_size
AGREEMENT = 1e-4  # of maps and losses, of the largest number


def tables(config: ConfigDict, rounds: int) -> Iterator[str]:
    """A table a batch size: forward passes and steps, each after its counterpart.

    Raises:
        UserError: PyTorch is absent or the two networks disagree.
    """
    _check(config)
    size = config.train.input_size
    for images in (n for n in BATCHES if n <= config.train.batch_size):
        with elsewhere.variants(_torch_variants, config, images) as (forward, step):
            pairs = {
                "forward": [predict.forward(config, images, size), forward],
                "step": [train.step(config, images, "training step"), step],
            }
            for name, pair in pairs.items():
                measured = timing.measure(pair, rounds)
                title = f"{name} of {images} images of {size}, width {config.model.width}"
                yield timing.table(title, measured[::-1], config.dtype, "PyTorch")


def _check(config: ConfigDict) -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        raise UserError("PyTorch is not installed: run `pip install torch`.") from None
    if jax.default_backend() != "cpu" or config.dtype != "float32":
        raise UserError("Beside PyTorch: on a CPU, with --config.dtype=float32.")


def _torch_variants(config: ConfigDict, images: int) -> tuple[timing.Variant, timing.Variant]:
    """PyTorch's forward pass and training step, which compute what ours do."""
    import torch

    from tools.benchmarks import torch_reference

    model = pinet.build(config)
    variables = crowds.variables(model)
    network = torch_reference.build(config, convert.to_torch(variables))
    batch = _batch(config, images)
    pixels = torch.tensor(batch["image"]).permute(0, 3, 1, 2).contiguous()
    targets = torch_reference.as_tensors(*_targets(model, batch, config))
    optimizer = torch.optim.Adam(network.parameters(), config.train.learning_rate)

    def forward():
        with torch.no_grad():
            return network.eval()(pixels)

    def loss():
        return torch_reference.training_loss(network.train(), pixels, targets, config.losses)

    def step():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    maps, total = _ours(model, variables, batch, config)
    _compare("maps", maps, forward()["heatmap_head"].permute(0, 2, 3, 1).numpy())
    _compare("losses", total, loss().detach().numpy())
    return (
        timing.Variant("PyTorch's forward pass", forward, images),
        timing.Variant("PyTorch's training step", step, images),
    )


def _batch(config: ConfigDict, images: int) -> dict[str, np.ndarray]:
    people, keypoints = config.dataset.max_persons, skeletons.of(config).num_keypoints
    rng, size = np.random.default_rng(0), config.train.input_size
    batch = crowds.batch(rng, images, people, keypoints, size, HEATMAP_STRIDE)
    # PyTorch has no loss of a batch without a single person large enough for offsets.
    return batch | {"area": np.maximum(batch["area"], config.targets.min_area)}


def _targets(model: pinet.PINet, batch: dict[str, np.ndarray], config: ConfigDict) -> tuple:
    """Targets, sampled locations and which of those are valid."""

    @jax.jit
    def render(batch):
        targets = losses.targets_of(model, batch, config)
        settings = config.losses.samples_per_part, config.targets.convention
        return targets, *losses.sample_locations(targets, *settings)

    return jax.device_get(render(batch))


def _ours(model: pinet.PINet, variables: dict, batch: dict, config: ConfigDict) -> tuple:
    """Keypoint heatmaps in evaluation, and the training loss."""

    @jax.jit
    def run(variables, batch):
        pixels, targets = normalise(batch["image"]), losses.targets_of(model, batch, config)
        maps = model.apply(variables, pixels, train=False)
        trained = variables["params"], variables["batch_stats"]
        loss, _ = losses.train_loss(model, *trained, pixels, targets, config)
        return maps.keypoint_heatmaps, loss

    return jax.device_get(run(variables, batch))


def _compare(what: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    apart = np.abs(ours - theirs).max() / np.abs(theirs).max()
    if not apart < AGREEMENT:
        raise UserError(f"PyTorch's {what} are {apart:.1e} apart from ours: a bug in either.")
