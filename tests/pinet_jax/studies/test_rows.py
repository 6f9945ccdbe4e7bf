import pytest

from pinet_jax import methods
from pinet_jax.config import load_config, with_fields
from pinet_jax.errors import UserError
from pinet_jax.studies import rows


def test_every_row_and_claim_names_what_there_is():
    names = [row.name for row in rows.ROWS]
    assert len(set(names)) == len(names)
    assert {row.training for row in rows.ROWS} == set(rows.TRAININGS)
    for claim in rows.CLAIMS:
        assert {claim.better, claim.worse} <= set(names)
    for claim in rows.GAIN_CLAIMS:
        assert {*claim.gain, *claim.other} <= set(names)
    assert {*rows.FALLING, *rows.GROWING} <= set(names)


@pytest.mark.parametrize("training", rows.TRAININGS)
def test_the_config_of_every_training_is_one_that_its_method_takes(training):
    config = with_fields(load_config("study"), rows.TRAININGS[training])
    methods.of(config).check(config)


def test_trainings_come_in_the_order_of_the_claims():
    assert rows.trainings_of(["full", "PPG+PR", "center"]) == ["center", "full"]


def test_an_unknown_row_is_named_with_the_known_ones():
    with pytest.raises(UserError, match=r"no row 'torso'; use some of center, .*full"):
        rows.row("torso")
