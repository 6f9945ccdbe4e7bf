"""PINet in PyTorch, written from this project's description: what its speed is held against.

Modules have the released names, so that `convert.to_torch` fills them. Maps are NCHW; the
training loss takes the targets that `pinet_jax.methods.pinet.targets` renders.
"""

import functools
from collections.abc import Mapping

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import Tensor, nn
from torch.nn import functional

from pinet_jax import skeletons
from pinet_jax.backbones.hrnet import EXPANSION, MEAN, STD
from pinet_jax.methods.pinet.losses import gather_locations
from pinet_jax.methods.pinet.targets import Targets

Maps = dict[str, Tensor]


def build(config: ConfigDict, state_dict: Mapping[str, np.ndarray]) -> "PINet":
    """The network of a config with the weights of `convert.to_torch`."""
    model = PINet(config)
    model.load_state_dict({name: torch.tensor(x) for name, x in state_dict.items()})
    return model


class PINet(nn.Module):
    """Images uint8 [b, 3, h, w] to maps, and sampled proposals to corrections."""

    def __init__(self, config: ConfigDict):
        super().__init__()
        skeleton, model = skeletons.of(config), config.model
        self.keypoints, self.parts = skeleton.num_keypoints, len(skeleton.parts(model.partition))
        self.backbone = HRNet(model)
        features = self.backbone.channels
        self.ppg = nn.ModuleDict(
            {
                "heatmap_head": nn.Conv2d(features, self.keypoints, 1),
                "detkptmap_head": nn.Conv2d(features, self.parts, 1),
                "offset_head": nn.Conv2d(features, self.parts * self.keypoints * 2, 1),
            }
        )
        if model.refinement:
            self.pr = PR(features, self.keypoints, model.graph_layers)
        self.align_corners = model.sampling == "exact"
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Maps:
        """Features and the three heads' maps at a quarter of the images' size."""
        features = self.backbone((images / 255 - self.mean) / self.std)
        return {"features": features, **{name: head(features) for name, head in self.ppg.items()}}

    def refine(self, features: Tensor, poses: Tensor, centers: Tensor, valid: Tensor) -> Tensor:
        """Corrections [m, k, 2] of the m valid of the proposals [b, n, k, 2]."""
        size = torch.tensor([features.shape[3], features.shape[2]])
        grid = 2 * poses.detach() / (size - 1) - 1
        read = functional.grid_sample(features, grid, align_corners=self.align_corners)
        at_keypoints = read.permute(0, 2, 3, 1)[valid]
        image = torch.arange(len(valid))[:, None].expand(valid.shape)[valid]
        x, y = centers[valid].unbind(-1)
        return self.pr(at_keypoints, features[image, :, y, x]).view(-1, self.keypoints, 2)


class HRNet(nn.Module):
    """The backbone, see pinet_jax.backbones.hrnet."""

    def __init__(self, model: ConfigDict):
        super().__init__()
        stem = model.stem_width
        self.conv1, self.bn1 = conv(3, stem, 3, 2), nn.BatchNorm2d(stem)
        self.conv2, self.bn2 = conv(stem, stem, 3, 2), nn.BatchNorm2d(stem)
        channels = [stem] + [stem * EXPANSION] * model.bottlenecks
        self.layer1 = nn.Sequential(*(Bottleneck(c, stem) for c in channels[:-1]))
        widths, stages = [channels[-1]], enumerate(model.modules, start=2)
        self.stages = [f"stage{stage}" for stage, _ in stages]
        for stage, modules in enumerate(model.modules, start=2):
            new = [model.width * 2**i for i in range(stage)]
            setattr(self, f"transition{stage - 1}", transition(widths, new))
            setattr(self, f"stage{stage}", stacked(new, model.blocks, modules))
            widths = new
        self.channels = sum(widths)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images to features at a quarter of their size."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]
        for number, stage in enumerate(self.stages, start=1):
            moved = []
            for i, layer in enumerate(getattr(self, f"transition{number}")):
                moved.append(layer(branches[min(i, len(branches) - 1)]))
            branches = getattr(self, stage)(moved)
        size = branches[0].shape[2:]
        return torch.cat([branches[0], *(bilinear(x, size) for x in branches[1:])], 1)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut."""

    def __init__(self, inputs: int, features: int):
        super().__init__()
        outputs = features * EXPANSION
        self.conv1, self.bn1 = conv(inputs, features, 1), nn.BatchNorm2d(features)
        self.conv2, self.bn2 = conv(features, features, 3), nn.BatchNorm2d(features)
        self.conv3, self.bn3 = conv(features, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = None if inputs == outputs else conv_bn(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """As many channels as EXPANSION says."""
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = functional.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return functional.relu(y, inplace=True)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.bn1 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """As many channels as x."""
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x
        return functional.relu(y, inplace=True)


class FusedBranches(nn.Module):
    """Blocks on every branch, then every branch to every branch."""

    def __init__(self, widths: list[int], blocks: int):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(bring(widths, source, to) for source in range(len(widths)))
            for to in range(len(widths))
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Maps of the same shapes."""
        branches = [layer(x) for layer, x in zip(self.branches, branches, strict=True)]
        return [self._fused(row, branches) for row in self.fuse_layers]

    @staticmethod
    def _fused(row: nn.ModuleList, branches: list[Tensor]) -> Tensor:
        terms = (layer(x) for layer, x in zip(row, branches, strict=True))
        return functional.relu(functools.reduce(torch.add, terms))


class PR(nn.Module):
    """The refinement, see pinet_jax.methods.pinet.refinement; the adjacency is dynamic."""

    def __init__(self, features: int, keypoints: int, layers: int):
        super().__init__()
        self.adj = nn.Parameter(torch.zeros(keypoints, keypoints))
        self.gconv_head = GraphBlock(features)
        self.gconv_layers = nn.ModuleList(
            nn.ModuleDict({"gconv1": GraphBlock(features), "gconv2": GraphBlock(features)})
            for _ in range(layers)
        )
        self.gconv_pred = nn.Sequential(
            nn.Conv1d(3 * features, features, 1),
            nn.BatchNorm1d(features),
            nn.ReLU(),
            nn.Conv1d(features, 2 * keypoints, 1),
        )

    def forward(self, x: Tensor, centers: Tensor) -> Tensor:
        """Corrections [m, 2 k] of keypoint features [m, k, f] and center features [m, f]."""
        x = self.gconv_head(x, self.adj)
        for layer in self.gconv_layers:
            x = x + layer["gconv2"](layer["gconv1"](x, self.adj), self.adj)
        pooled = torch.cat([x.mean(1), x.amax(1), centers], -1)
        return self.gconv_pred(pooled[..., None])[..., 0]


class GraphBlock(nn.Module):
    """relu(BN(A X W + b))."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = nn.ParameterDict(
            {"weight": torch.zeros(features, features), "bias": torch.zeros(features)}
        )
        self.bn = nn.BatchNorm1d(features)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """Keypoint features [m, k, f]."""
        x = adjacency @ (x @ self.conv["weight"]) + self.conv["bias"]
        return functional.relu(self.bn(x.flatten(0, 1)).view_as(x))


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Without a bias, padded on all sides alike."""
    return nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False)


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, *more) -> nn.Sequential:
    """Convolution and normalisation, and what comes after them."""
    return nn.Sequential(conv(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs), *more)


def transition(old: list[int], new: list[int]) -> nn.ModuleList:
    """Old branches adapted in width, a new one at half the resolution."""
    layers = []
    for i, width in enumerate(new):
        if i >= len(old):
            layers.append(nn.Sequential(conv_bn(old[-1], width, 3, 2, nn.ReLU(True))))
        elif old[i] != width or len(old) == 1:
            layers.append(conv_bn(old[i], width, 3, 1, nn.ReLU(True)))
        else:
            layers.append(nn.Identity())
    return nn.ModuleList(layers)


def stacked(widths: list[int], blocks: int, modules: int) -> nn.Sequential:
    """The modules of a stage."""
    return nn.Sequential(*(FusedBranches(widths, blocks) for _ in range(modules)))


def bring(widths: list[int], source: int, to: int) -> nn.Module:
    """Branch `source` in the shape of branch `to`."""
    if source == to:
        return nn.Identity()
    if source > to:
        up = nn.Upsample(scale_factor=2 ** (source - to), mode="nearest")
        return conv_bn(widths[source], widths[to], 1, 1, up)
    steps = to - source
    down = [conv_bn(widths[source], widths[source], 3, 2, nn.ReLU(True)) for _ in range(steps - 1)]
    return nn.Sequential(*down, conv_bn(widths[source], widths[to], 3, 2))


def bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Half-pixel centres."""
    return functional.interpolate(x, size, mode="bilinear", align_corners=False)


def training_loss(
    model: PINet, images: Tensor, targets: Mapping[str, Tensor], losses: ConfigDict
) -> Tensor:
    """The loss of `pinet_jax.methods.pinet.losses.train_loss`.

    Args:
        model: in training mode.
        images: uint8 [b, 3, h, w].
        targets: of `as_tensors`.
        losses: `config.losses`.
    """
    maps = model(images)
    found = torch.cat([maps["heatmap_head"], maps["detkptmap_head"]], 1)
    loss = (targets["mask"] * (found - targets["heatmaps"]) ** 2).mean()
    offsets = maps["offset_head"].unflatten(1, (model.parts, model.keypoints, 2))
    beta = losses.smooth_l1_beta
    loss = loss + losses.offset_weight * offset_loss(offsets, targets, "", beta)
    index = targets["index"][:, :, None, None].expand(-1, -1, model.keypoints, 2, -1)
    sampled = offsets.detach().flatten(4).gather(4, index).permute(0, 1, 4, 2, 3).flatten(1, 2)
    index, valid = targets["index"].flatten(1), targets["valid"].flatten(1)
    width = offsets.shape[-1]
    centers = torch.stack([index % width, index // width], -1)
    delta = model.refine(maps["features"], centers[:, :, None] - sampled, centers, valid)
    refined = sampled[valid] + delta
    return loss + losses.refinement_weight * offset_loss(refined, targets, "sampled_", beta)


def offset_loss(found: Tensor, targets: Mapping[str, Tensor], kind: str, beta: float) -> Tensor:
    """Weighted smooth-L1 over its number of weighted scalars."""
    weights = targets[f"{kind}weights"]
    wanted = targets[f"{kind}offsets"]
    error = functional.smooth_l1_loss(found, wanted, reduction="none", beta=beta)
    return (error * weights).sum() / (weights != 0).expand_as(error).sum()


def as_tensors(targets: Targets, index: np.ndarray, valid: np.ndarray) -> dict[str, Tensor]:
    """What `training_loss` reads, of host arrays.

    Args:
        targets: of a batch.
        index: flat sampled locations [b, s, n], as of `losses.sample_locations`.
        valid: which of them count.
    """
    offsets = gather_locations(targets.offsets, index)
    weights = gather_locations(targets.offset_weights, index)
    arrays = {
        "heatmaps": _channels_first(targets.keypoint_heatmaps, targets.part_heatmaps),
        "mask": _channels_first(targets.keypoint_mask, targets.part_mask),
        "offsets": targets.offsets.transpose(0, 3, 4, 5, 1, 2),
        "weights": targets.offset_weights.transpose(0, 3, 4, 1, 2)[:, :, :, None],
        "index": index.astype(np.int64),
        "valid": valid,
        "sampled_offsets": np.asarray(offsets)[valid],
        "sampled_weights": np.asarray(weights)[valid][..., None],
    }
    return {name: torch.tensor(np.ascontiguousarray(x)) for name, x in arrays.items()}


def _channels_first(*maps: np.ndarray) -> np.ndarray:
    return np.concatenate(maps, -1).transpose(0, 3, 1, 2)
