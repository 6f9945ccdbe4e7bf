import pytest

from input_pipeline import coco, datasets
from pinet_jax.config import load_config
from pinet_jax.errors import UserError
from tests.input_pipeline import fake_coco


def test_coco_goes_to_its_builder(tmp_path):
    folder = fake_coco.write_fake_coco(tmp_path / "coco", num_images=2)
    fields = {"dataset.data_dir": str(folder), "dataset.prepared_dir": str(tmp_path / "prepared")}
    config = load_config("base", fields)
    assert len(datasets.open_split(config, "val")) == 2
    assert datasets.annotations_path(config, "val") == coco.annotations_path(config, "val")


def test_an_unknown_dataset_names_the_known_ones():
    config = load_config("base", {"dataset.name": "cocoo"})
    with pytest.raises(UserError, match=r"dataset\.name: 'cocoo'.*coco, synthcrowd"):
        datasets.open_split(config, "val")
