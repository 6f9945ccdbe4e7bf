import pytest
from ml_collections import ConfigDict

from pinet_jax.config import (
    CHOICES,
    CONFIG_DIR,
    check_choices,
    load_config,
    set_field,
    with_fields,
)
from pinet_jax.errors import UserError
from pinet_jax.methods.pinet import network

NAMES = sorted(path.stem for path in CONFIG_DIR.glob("[a-z]*.py"))


def fields(config, prefix=""):
    """Dotted names."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name


# Sections that only the config of one tool has.
OF_TOOLS = ("study.", "correspondences.", "stills.")


@pytest.mark.parametrize("name", NAMES)
def test_every_config_has_the_fields_of_base_and_describes_a_network(name):
    config = load_config(name)
    own = {field for field in fields(config) if field.startswith(OF_TOOLS)}
    assert set(fields(config)) - own == set(fields(load_config("base")))
    assert config.is_locked and config.model.is_locked
    model = network.build(config)
    assert model.num_keypoints in (14, 17) and model.parts


def test_the_papers_recipe():
    config = load_config("coco")
    assert (config.train.input_size, config.train.batch_size, config.train.epochs) == (512, 40, 140)
    assert config.train.drop_epochs == (90, 120) and config.train.learning_rate == 1e-3
    assert config.losses.offset_weight == config.losses.refinement_weight == 0.03
    assert config.model.width == 32 and config.model.graph_layers == 2
    assert config.targets.convention == "released" and config.targets.area == "box"
    assert config.targets.mask_outside


def test_overrides():
    config = load_config("base", {"eval.scales": (0.5, 1.0, 2.0), "seed": 7})
    assert config.eval.scales == (0.5, 1.0, 2.0) and config.seed == 7
    set_field(config, "model.width", 18)
    assert config.model.width == 18
    assert load_config("base").seed == 0  # every call has its own


def test_a_config_by_path(tmp_path):
    path = tmp_path / "mine.py"
    text = (
        "from configs import base\ndef get_config():\n    c = base.get_config()\n    c.seed = 5\n"
    )
    path.write_text(text + "    return c\n")
    assert load_config(str(path)).seed == 5


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("cocoa", None, r"No config 'cocoa': .*coco"),
        ("absent/mine.py", None, r"No config 'absent/mine.py'"),
        ("base", {"eval.flipp": True}, r"no field 'eval.flipp'"),
        ("base", {"evaluation.flip": True}, r"no field 'evaluation.flip'"),
        ("base", {"model.width": "wide"}, r"config\.model\.width: "),
    ],
)
def test_mistakes(name, overrides, words):
    with pytest.raises(UserError, match=words):
        load_config(name, overrides)


@pytest.mark.parametrize("field", CHOICES)
def test_unknown_choices_are_named(field):
    config = load_config("base", {field: "other"})
    for check in (check_choices, network.build):
        with pytest.raises(UserError, match=rf"config\.{field}: 'other' is not one of \w+, \w+"):
            check(config)


@pytest.mark.parametrize("field, choices", CHOICES.items())
def test_every_choice_is_taken(field, choices):
    for choice in choices:
        check_choices(load_config("base", {"eval.pose_fusion": False, field: choice}))


def test_fusion_has_no_groups_in_the_suppression_that_is_not_by_oks():
    with pytest.raises(UserError, match=r"pose_fusion goes with config\.eval\.suppression=oks"):
        check_choices(load_config("base", {"eval.suppression": "dekr"}))


@pytest.mark.parametrize(
    ("windows", "sides", "words"),
    [
        ((3, 4), (200.0,), r"peak_windows: \(3, 4\) must be odd numbers"),
        ((3, 5, 7), (200.0,), "one more than config.eval.peak_window_sides has, 1"),
        ((3, 5, 7), (300.0, 200.0), "peak_window_sides: .* must be rising"),
    ],
)
def test_windows_that_peaks_cannot_have(windows, sides, words):
    overrides = {"eval.peak_windows": windows, "eval.peak_window_sides": sides}
    with pytest.raises(UserError, match=words):
        check_choices(load_config("base", overrides))


def test_a_changed_copy_leaves_the_config_alone():
    config = load_config("base")
    changed = with_fields(config, {"eval.batch_size": 1, "eval.pose_fusion": False})
    assert (changed.eval.batch_size, changed.eval.pose_fusion) == (1, False)
    assert config == load_config("base") and changed.is_locked
    with pytest.raises(UserError, match=r"no field 'eval\.batch'"):
        with_fields(config, {"eval.batch": 1})
