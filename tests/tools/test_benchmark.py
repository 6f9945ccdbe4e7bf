import numpy as np
import pytest

from pinet_jax import skeletons
from pinet_jax.methods.pinet.targets import render_targets
from tests import tiny
from tools import benchmark
from tools.benchmarks import crowds, looped_targets, postprocess, targets, timing, train


def test_variants_take_turns_and_the_first_runs_are_not_counted():
    order = []
    variants = [timing.Variant(name, lambda name=name: order.append(name)) for name in "ab"]
    timings = timing.measure(variants, rounds=3)
    assert "".join(order) == "ab" + "ab" * 3
    assert [len(t.seconds) for t in timings] == [3, 3]


def test_the_table_shows_medians_ratios_and_shares(monkeypatch):
    monkeypatch.setattr(timing, "peak_rate", lambda dtype: 4e9)
    quick = timing.Timing(timing.Variant("quick", None, 2, 1e9, 3 * 2**20), (0.5, 9.0, 0.4))
    slow = timing.Timing(timing.Variant("slow", None), (2.0,))
    title, heads, first, second, _ = timing.table("work", [quick, slow], "float32").split("\n")
    assert title == "work" and heads.split()[:3] == ["ms", "ms/image", "x"]
    assert first.split() == ["quick", "500", "250", "1.000", "1", "50.0", "3"]
    assert second.split() == ["slow", "2,000", "2,000", "4.000", "-", "-", "-"]


def test_a_program_counts_its_work():
    matrix = np.ones((64, 32), np.float32)
    variant = timing.program("product", lambda a, b: a @ b, matrix, matrix.T)
    assert variant.flops == pytest.approx(2 * 64 * 64 * 32, rel=0.01)
    assert variant.memory >= 4 * (64 * 32 * 2 + 64 * 64)
    assert variant.run().shape == (64, 64)


def test_the_loops_draw_what_the_program_renders():
    config = tiny.config()
    parts = skeletons.of(config).parts("part-large")
    points, area = crowds.people(np.random.default_rng(0), 1, 5, 17, 256)
    area[0, 0] = 900  # too small for part centres
    points[0, 1, :4, 2] = 0
    rendered = render_targets(points, area, np.ones((1, 64, 64), bool), parts, config.targets)
    looped = looped_targets.render(points[0], area[0], (64, 64), parts, config.targets)
    assert min(np.abs(array).max() for array in looped.values()) > 0
    for name, array in looped.items():
        np.testing.assert_allclose(getattr(rendered, name)[0], array, atol=2e-5, err_msg=name)


def test_the_wanted_number_of_candidates_is_there():
    config = tiny.config(**{"eval.max_peaks": 30})
    for count in (1, 20):
        people = postprocess.finish(config, 128, count).run()
        # Random poses are nobody's double: each candidate is a person.
        assert int(people.valid.sum()) == count


def test_the_sections_measure():
    config = tiny.config()
    step = train.step(config, 4, "step")
    rendering = targets.renderer(config, 4, 3, tiny.SIZE, "targets")
    timings = timing.measure([step, rendering], rounds=1)
    assert step.flops > 100 * rendering.flops
    assert len(timing.table("", timings, "float32").split("\n")) == 5


def test_every_section_is_a_module_with_tables():
    import importlib

    for module in benchmark.SECTIONS.values():
        assert callable(importlib.import_module(f"tools.benchmarks.{module}").tables)
