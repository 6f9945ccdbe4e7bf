"""OCHuman: the paper's recipe, trained on val (140 epochs on two devices), tested on test.

Published: AP 59.8, AP50 74.9, AP75 65.9 on test. Released weights are converted with

    python tools/convert_weights.py FILE.pth.tar --config configs/ochuman.py --out runs/ochuman
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.dataset.name = "ochuman"
    config.dataset.train_split = "val"
    config.dataset.eval_split = "test"
    config.dataset.min_train_keypoints = 1
    config.model.graph_layers = 3
    config.train.batch_size = 20
    return config
