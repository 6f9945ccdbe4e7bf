"""CrowdPose: where the official download has its files."""

from ml_collections import ConfigDict

from input_pipeline.datasets.layout import Files, in_usual_folders

SPLITS = ("train", "val", "test")
PREPARED = SPLITS
ALIASES = {"trainval": "train+val"}
PUBLISHED = {
    "train": {"images": 10000},
    "val": {"images": 2000},
    "test": {"images": 8000},
    "train+val+test": {"persons": "about 80,000"},
}


def files(config: ConfigDict, split: str) -> Files:
    """Where a split's files are."""
    del config
    return Files(in_usual_folders(f"crowdpose_{split}.json"), ("images",))
