"""One's own images and COCO-format annotations: the config says where they are."""

from ml_collections import ConfigDict

from input_pipeline.datasets.layout import Files

SPLITS = ()  # any
PREPARED = ()
ALIASES = {}
PUBLISHED = {}


def files(config: ConfigDict, split: str) -> Files:
    """Where a split's files are: config.dataset.annotations and images, with {split}."""
    patterns = config.dataset.annotations, config.dataset.images
    annotations, images = (pattern.replace("{split}", split) for pattern in patterns)
    return Files((annotations,), (images,))
