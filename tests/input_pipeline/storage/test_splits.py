import pytest

from input_pipeline.storage import splits
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from tests.input_pipeline import fake_coco


def test_coco_goes_to_its_builder(tmp_path):
    folder = fake_coco.write_fake_coco(tmp_path / "coco", num_images=2)
    fields = {"dataset.data_dir": str(folder), "dataset.prepared_dir": str(tmp_path / "prepared")}
    config = load_config("base", fields)
    assert len(splits.open_split(config, "val")) == 2
    assert splits.annotations_path(config, "val").is_relative_to(tmp_path / "prepared")


def test_an_unknown_dataset_names_the_known_ones():
    config = load_config("base", {"dataset.name": "cocoo"})
    known = "coco, ochuman, crowdpose, custom, synthcrowd"
    with pytest.raises(UserError, match=rf"dataset\.name: 'cocoo'.*{known}"):
        splits.open_split(config, "val")


@pytest.mark.parametrize(
    ("name", "split", "scored"),
    [("coco", "test-dev", False), ("coco", "val", True), ("synthcrowd", "val", True)],
)
def test_which_splits_can_be_scored(name, split, scored):
    config = load_config("base", {"dataset.name": name})
    assert splits.is_scored(config, split) == scored
