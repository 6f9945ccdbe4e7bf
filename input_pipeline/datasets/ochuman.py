"""OCHuman: where the official download has its files (the COCO-format annotations)."""

from ml_collections import ConfigDict

from input_pipeline.datasets.layout import Files, in_usual_folders

SPLITS = ("val", "test")
PREPARED = SPLITS
ALIASES = {}
PUBLISHED = {
    "val": {"images": 2500},
    "test": {"images": 2231},
    "val+test": {"persons": 8110},
}


def files(config: ConfigDict, split: str) -> Files:
    """Where a split's files are: all persons, whatever their IoU with the nearest."""
    del config
    name = f"ochuman_coco_format_{split}_range_0.00_1.00.json"
    return Files(in_usual_folders(name), ("images",))
