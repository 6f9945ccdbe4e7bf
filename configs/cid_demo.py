"""A CID small enough to train on two CPU cores in minutes, on the demo's synthetic crowds.

python train.py --config configs/cid_demo.py --workdir runs/cid_demo
python eval.py --config configs/cid_demo.py --workdir runs/cid_demo
"""

from ml_collections import ConfigDict

from configs import cid_coco, demo


def get_config() -> ConfigDict:
    config = cid_coco.with_cid(demo.get_config())
    config.targets.max_instances = 24  # of 8 crowds of 2 or 3
    config.train.batch_size = 8
    config.train.learning_rate = 2e-3
    return config
