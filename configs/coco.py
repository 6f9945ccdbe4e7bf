"""COCO keypoints: the paper's recipe, 140 epochs on two devices.

Published: AP 67.4 on val2017, 66.7 on test-dev.

    python train.py --config configs/coco.py --workdir runs/coco \
        --config.dataset.data_dir=DIR   # the official download
    python eval.py --config configs/coco.py --workdir runs/coco \
        --config.dataset.data_dir=DIR
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    return base.get_config()
