"""A DEKR small enough to train on two CPU cores in minutes, on the crowds of configs/demo.py.

python train.py --config configs/dekr_demo.py --workdir runs/dekr_demo
python eval.py --config configs/dekr_demo.py --workdir runs/dekr_demo
"""

from ml_collections import ConfigDict

from configs import demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.model.method = "dekr"
    config.model.keypoint_channels = 6
    config.targets.area = "box"
    config.targets.min_area = 0.0
    config.targets.center_sigma = 2.0
    config.targets.square_radius = 3
    config.losses.offset_weight = 0.5  # its weights are smaller, by the diagonal of a box
    config.train.epochs = 2.0  # reading at points of their own is slow work for a CPU
    config.eval.suppression = "dekr"
    config.eval.pose_fusion = False
    return config
