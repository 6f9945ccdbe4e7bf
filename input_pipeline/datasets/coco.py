"""COCO 2017 keypoints: where the official download has its files."""

from ml_collections import ConfigDict

from input_pipeline.datasets.layout import Files, in_usual_folders

SPLITS = ("train", "val", "test-dev")
PREPARED = ("train", "val")
ALIASES = {"trainval": "train+val"}
PUBLISHED = {
    "train": {"images": 118287, "persons": 149813},
    "val": {"images": 5000, "persons": 6352},
    "test-dev": {"images": 20288},
}


def files(config: ConfigDict, split: str) -> Files:
    """Where a split's files are; COCO's server alone has the annotations of test-dev."""
    del config
    if split == "test-dev":
        listed = in_usual_folders("image_info_test-dev2017.json")
        return Files(listed, ("test2017", "images/test2017"), scored=False)
    annotations = in_usual_folders(f"person_keypoints_{split}2017.json")
    return Files(annotations, (f"{split}2017", f"images/{split}2017"))
