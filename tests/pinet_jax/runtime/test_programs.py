"""Programs that another process finds again: the same results, and no others' programs."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinet_jax import methods
from pinet_jax.config import load_config, part_of, with_fields
from pinet_jax.runtime import programs
from pinet_jax.runtime.programs import Program, in_words
from pinet_jax.training import step as training
from tests import programs as processes

CHILD = """
import json, sys
from tests.pinet_jax.runtime import test_programs
print(json.dumps(test_programs.run(sys.argv[1], "sums")))
"""


@pytest.fixture
def folder(tmp_path):
    programs.keep_in(tmp_path)
    yield tmp_path
    programs.keep_in(None)


def sums(counter: list, factor: float = 2.0):
    """A jitted function that counts how often it is traced."""

    def traced(x, y):
        counter.append(1)
        return {"sum": factor * x + y["a"], "product": jnp.dot(x, y["a"])}

    return jax.jit(traced, donate_argnums=(0,))


def arguments(size: int = 8):
    x = np.linspace(0, 1, size, dtype=np.float32)
    return jnp.asarray(x), {"a": jnp.asarray(x[::-1].copy())}


def run(folder, made_from: str | None, factor: float = 2.0, size: int = 8) -> dict:
    """The program's results, and how often it was traced."""
    programs.keep_in(folder)
    counter = []
    found = Program("sums", sums(counter, factor), made_from)(*arguments(size))
    programs.keep_in(None)
    return {name: np.asarray(value).tolist() for name, value in found.items()} | {
        "traces": len(counter)
    }


def test_the_second_is_not_traced_and_gives_the_same(tmp_path):
    first, second = run(tmp_path, "sums"), run(tmp_path, "sums")
    assert (first.pop("traces"), second.pop("traces")) == (1, 0)
    assert first == second
    expected = 2 * np.linspace(0, 1, 8) + np.linspace(1, 0, 8)
    np.testing.assert_allclose(first["sum"], expected, rtol=1e-6)


def test_another_process_finds_it(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    folder = tmp_path / "programs"
    found = [json.loads(processes.output_anew(script, folder)) for _ in range(2)]
    assert [one.pop("traces") for one in found] == [1, 0]
    assert found[0] == found[1]


@pytest.mark.parametrize("change", [{"made_from": "others"}, {"size": 9}])
def test_what_is_made_from_something_else_is_another(tmp_path, change):
    run(tmp_path, "sums")
    assert run(tmp_path, **({"made_from": "sums"} | change))["traces"] == 1


@pytest.mark.parametrize(
    ("where", "value"),
    [("environ", "--xla_cpu_enable_fast_math=false"), ("source", "another library")],
)
def test_other_surroundings_make_another(tmp_path, monkeypatch, where, value):
    run(tmp_path, "sums")
    if where == "environ":
        monkeypatch.setenv("XLA_FLAGS", value)  # XLA itself has read it before
    else:
        monkeypatch.setattr(programs, "_source", lambda: value)
    assert run(tmp_path, "sums")["traces"] == 1


def test_settings_of_jax_make_another(tmp_path):
    run(tmp_path, "sums")
    with_default = jax.config.jax_default_matmul_precision
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        assert run(tmp_path, "sums")["traces"] == 1
    finally:
        jax.config.update("jax_default_matmul_precision", with_default)


def test_of_several_only_those_that_are_missing_are_compiled(folder):
    counter = []
    made = [Program("sums", sums(counter, factor), str(factor)) for factor in (1.0, 2.0, 3.0)]
    made[0].prepare(*arguments())
    programs.prepare({program: arguments() for program in made})
    assert len(counter) == 3 and all(program.run for program in made)
    again = [Program("sums", sums(counter, factor), str(factor)) for factor in (1.0, 2.0, 3.0)]
    programs.prepare({program: arguments() for program in again})
    assert len(counter) == 3
    for program, same, factor in zip(made, again, (1.0, 2.0, 3.0), strict=True):
        x, y = arguments()
        wanted = np.asarray(factor * x + y["a"])
        np.testing.assert_allclose(program(*arguments())["sum"], wanted, rtol=1e-6)
        np.testing.assert_array_equal(same(*arguments())["sum"], program(*arguments())["sum"])


def test_one_of_several_that_cannot_be_compiled_is_told(folder):
    def fails(x, y):
        raise ValueError("cannot be traced")

    good, bad = Program("sums", sums([]), "sums"), Program("bad", jax.jit(fails), "bad")
    with pytest.raises(ValueError, match="cannot be traced"):
        programs.prepare({good: arguments(), bad: arguments()})
    assert good.run is not None


def test_what_cannot_be_told_is_not_kept(tmp_path):
    assert [run(tmp_path, None)["traces"] for _ in range(2)] == [1, 1]
    assert not any(tmp_path.iterdir())


def test_donated_arguments_are_donated_by_what_is_found(folder):
    for _ in range(2):
        x, y = arguments()
        Program("sums", sums([]), "sums")(x, y)
        assert x.is_deleted() and not y["a"].is_deleted()


def test_what_jax_found_in_its_own_cache_can_be_kept_too(folder):
    """As after a change of the library's text that changes none of its programs."""
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    try:
        sums([], 3.0)(*arguments())  # now JAX has it
        jax.clear_caches()
        first = run(folder, "sums", 3.0)
        jax.clear_caches()
        assert run(folder, "sums", 3.0) == first | {"traces": 0}
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
    assert jax.config.jax_enable_compilation_cache


def test_a_damaged_one_is_made_anew(tmp_path):
    first = run(tmp_path, "sums")
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert run(tmp_path, "sums") == first
    assert run(tmp_path, "sums")["traces"] == 0


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "programs", "sums")["traces"] == 1
    assert "cannot keep a compiled program" in capsys.readouterr().err


def test_the_longest_unused_make_room(tmp_path, monkeypatch):
    for name in "abc":
        run(tmp_path, name)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    monkeypatch.setattr(programs, "MOST", sum(sizes) + min(sizes) // 2)
    assert run(tmp_path, "a")["traces"] == 0  # which makes it the newest
    run(tmp_path, "d")
    assert [run(tmp_path, name)["traces"] for name in "acd"] == [0, 0, 0]
    assert run(tmp_path, "b")["traces"] == 1


# ---- What the library's own programs are made from


def test_words_are_the_same_in_every_process():
    words = in_words(jnp.tanh, lambda: 0, {"a": (1, 2.5)})
    assert " at 0x" not in words and "2.5" in words


def test_a_part_of_a_config_has_no_other_field():
    config = load_config("coco", {"train.accumulation": 2})
    part = part_of(config, training.STEP_FIELDS)
    assert part.train.accumulation == 2 and part.model == config.model
    assert part.dataset.skeleton == "coco"
    for read in (lambda: part.eval, lambda: part.train.batch_size, lambda: part.dataset.data_dir):
        with pytest.raises(AttributeError):
            read()
    assert config.train.batch_size == 40


@pytest.mark.parametrize(
    ("field", "value", "matters"),
    [
        ("train.learning_rate", 0.5, ["update"]),
        ("train.schedule", "cosine", ["update"]),
        ("model.graph", "static", ["measure"]),
        ("losses.offset_weight", 0.5, ["measure"]),
        ("targets.sigma", 3.0, ["measure"]),
        ("dtype", "float32", ["measure"]),
        ("seed", 7, ["measure"]),
        ("train.log_every", 7, []),
        ("dataset.data_dir", "elsewhere", []),
        ("eval.max_peaks", 7, []),
    ],
)
def test_a_step_is_told_by_what_it_is_made_from(field, value, matters):
    config = load_config("coco")
    changed = with_fields(config, {field: value})
    models = [methods.of(one).build(one) for one in (config, changed)]
    first = training.made_from(models[0], config, 10.0)
    second = training.made_from(models[1], changed, 10.0)
    differ = [name for name in first._fields if getattr(first, name) != getattr(second, name)]
    assert differ == matters
    assert training.made_from(models[0], config, 11.0).update != first.update


def test_the_source_is_the_librarys():
    root = pathlib.Path(programs.__file__).parents[2]
    assert all((root / package / "__init__.py").exists() for package in programs._SOURCES)
    assert len(programs._source()) == 64
