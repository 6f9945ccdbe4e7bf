import functools
import re

import pytest
from ml_collections import ConfigDict

from pinet_jax import methods, skeletons
from pinet_jax.config import load_config, with_fields
from pinet_jax.errors import UserError
from pinet_jax.weights import convert, fit
from tests import tiny

pytestmark = pytest.mark.slow

Shapes = dict[str, tuple[int, ...]]


def shapes(name: str, **overrides) -> Shapes:
    """Of the weights of a shipped config's model."""
    changes = {field.replace("__", "."): value for field, value in overrides.items()}
    return entries(load_config(name, changes))


def entries(config: ConfigDict) -> Shapes:
    """Those of the backbone, and of the heads behind a short one, which are the same."""
    of_short = convert._entries(with_fields(config, tiny.SHORT)).items()
    heads = {name: shape for name, (path, shape) in of_short if path[1] != "backbone"}
    prefix = methods.of(config).released.BACKBONE
    backbone = of_backbone(config.model.width, config.model.modules)
    return {prefix + name: shape for name, shape in backbone.items()} | heads


@functools.cache
def of_backbone(width: int, modules: tuple[int, ...]) -> Shapes:
    config = load_config("spm", {"model.width": width, "model.modules": modules})
    found = convert._entries(config).items()
    prefix = methods.of(config).released.BACKBONE
    return {
        name.removeprefix(prefix): shape for name, (path, shape) in found if path[1] == "backbone"
    }


@pytest.fixture(scope="module")
def coco() -> Shapes:
    return shapes("coco")


@pytest.fixture(scope="module")
def crowdpose() -> Shapes:
    return shapes("crowdpose")


def test_fitting_weights_raise_nothing(coco):
    whole = {name: shape for name, (_, shape) in convert._entries(load_config("coco")).items()}
    assert coco == whole  # put together above
    fit.check(coco, whole, load_config("coco"))


def test_the_shipped_config_that_fits_is_named(coco, crowdpose):
    with pytest.raises(UserError) as error:
        fit.check(crowdpose, coco, load_config("coco"))
    message = str(error.value)
    assert re.search(r"ppg\.heatmap_head\.weight has shape \(14, 480, 1, 1\), the config wants "
                     r"\(17, 480, 1, 1\)", message)  # fmt: skip
    assert "unknown pr.gconv_layers.2.gconv1.conv.weight (480, 480)" in message
    assert "Use configs/crowdpose.py, or add --config.dataset.skeleton=crowdpose " in message
    assert message.endswith("--config.model.graph_layers=3.")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        ({"model__width": 18}, "No shipped config has this model: add --config.model.width=18."),
        ({"model__refinement": False}, "add --config.model.refinement=False."),
        ({"model__partition": "center"}, "add --config.model.partition=center."),
        ({"model__modules": (1, 1, 2)}, "add --config.model.modules=(1,1,2)."),
        ({"model__graph_layers": 3}, "Use configs/ochuman.py, or add --config.model.graph_layers"),
    ],
)
def test_the_overrides_that_fit_are_named(overrides, advice):
    given = shapes("coco", **overrides)
    text = fit.advice(given, load_config("coco"))
    assert advice in text
    flags = dict(re.findall(r"--config\.([\w.]+)=(\S+?)[.]?(?=\s|$)", text))
    assert set(flags) == {field.replace("__", ".") for field in overrides}


def test_a_partition_with_as_many_parts_is_no_difference(coco):
    given = shapes("coco", model__partition="head", model__graph_layers=1)
    config = load_config("coco", {"model.partition": "head"})
    assert fit.advice(given, config).endswith("add --config.model.graph_layers=1.")


def test_weights_of_a_skeleton_of_ones_own():
    def config(partition):
        own = load_config("coco").copy_and_resolve_references().unlock()
        names = ("head", "left_hand", "right_hand")
        skeleton = skeletons.Skeleton(
            name="stick",
            keypoints=names,
            flip_order=skeletons.mirror(names),
            limbs=((0, 1), (0, 2)),
            sigmas=(0.1, 0.1, 0.1),
            partitions={"part-large": ((0,), (1, 2)), "center": ((0, 1, 2),)},
        )
        skeletons.use(own, skeleton)
        own.model.partition = partition
        return own.lock()

    given = entries(config("center"))
    assert fit.advice(given, config("part-large")).endswith("add --config.model.partition=center.")


def test_a_backbone_fits_every_config_of_its_width(coco):
    given = {n.removeprefix("backbone."): s for n, s in coco.items() if n.startswith("backbone.")}
    text = fit.advice(given, load_config("demo"))
    for name in ("coco", "crowdpose", "ochuman", "cid_coco"):
        assert f"configs/{name}.py" in text


def test_a_damaged_file_gets_no_config(coco):
    given = {n: s for n, s in coco.items() if n != "pr.adj"}
    with pytest.raises(UserError, match=r"missing pr\.adj \(17, 17\)\. No config fits better"):
        fit.check(given, coco, load_config("coco"))


@pytest.mark.parametrize("given", [{}, {"fc.weight": (3, 2)}])
def test_another_kind_of_network(given, coco):
    with pytest.raises(UserError, match="another kind of network"):
        fit.check(given, coco, load_config("coco"))


def test_a_long_list_is_cut_and_shows_each_kind():
    wanted = {f"a.{i}": (1,) for i in range(100)} | {f"b.{i}": (1,) for i in range(100)}
    given = {f"a.{i}": (2,) for i in range(100)} | {"c": (3,)}
    with pytest.raises(UserError) as error:
        fit.check(given, wanted, load_config("coco"))
    message = str(error.value)
    assert "201 entries: 100 misshapen, 100 missing, 1 unknown" in message
    assert "a.0 has shape (2,), the config wants (1,); missing b.0 (1,); unknown c (3,)" in message
    assert f"and {201 - fit.LISTED} more" in message


# ---- Files that come without a config


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ("coco", "pose_coco.pth.tar"),
        ("crowdpose", "pose_crowdpose.pth.tar"),
        ("ochuman", "model_best.pth.tar"),  # by its three graph layers
        ("spm", "center.pth"),
        ("dekr_coco", "checkpoint.pth.tar"),
        ("dekr_crowdpose", "checkpoint.pth.tar"),
        ("cid_coco", "checkpoint.pth.tar"),
        ("cid_crowdpose", "checkpoint.pth.tar"),
        ("cid_ochuman", "CID_OCHuman.pth.tar"),  # COCO's sizes: only the name tells
    ],
)
def test_the_config_of_a_released_file_is_found(config, file):
    assert fit.config_of(shapes(config), file) == load_config(config)


def test_the_config_of_another_width_is_the_shipped_one_mended():
    given = shapes("cid_crowdpose", model__width=48)
    found = fit.config_of(given, "wide.pth")
    assert found == load_config("cid_crowdpose", {"model.width": 48}) and found.is_locked


@pytest.mark.parametrize("given", [{}, {"fc.weight": (3, 2)}, "backbone"])
def test_a_file_of_no_method_is_refused(given, coco):
    if given == "backbone":
        given = {n[9:]: s for n, s in coco.items() if n.startswith("backbone.")}
    with pytest.raises(UserError, match=r"weights of none of pinet, spm, .*cid"):
        fit.config_of(given, "pose_coco.pth.tar")


def test_keypoints_of_no_known_skeleton_are_told(coco):
    given = coco | {"ppg.heatmap_head.weight": (5, 480, 1, 1)}
    with pytest.raises(UserError, match=r"no known skeleton.*convert_weights\.py"):
        fit.config_of(given, "five.pth")


def test_weights_of_another_method_get_the_config_that_fits(coco):
    with pytest.raises(UserError) as error:
        fit.check(shapes("cid_coco"), coco, load_config("coco"))
    assert "Use configs/cid_coco.py, configs/cid_ochuman.py, or add --config.model.method=cid." in (
        str(error.value)
    )
