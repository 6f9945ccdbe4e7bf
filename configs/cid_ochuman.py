"""CID on OCHuman, trained on val as configs/ochuman.py says, but 40 images at a time.

Published: AP 57.7, AP50 75.5, AP75 63.3 on test. The commands are those of configs/cid_coco.py with
the data of configs/ochuman.py.

A model trained on COCO, whose maps are smoothed more (published: AP 45.7 on val, 44.6 on test):

    python eval.py --config configs/cid_ochuman.py --checkpoint FILE.pth.tar \
        --config.dataset.data_dir=data/ochuman --config.eval.smoothing=11
"""

from ml_collections import ConfigDict

from configs import base, cid_coco, ochuman


def get_config() -> ConfigDict:
    config = cid_coco.with_cid(ochuman.get_config())
    config.train.batch_size = base.get_config().train.batch_size
    config.eval.oks_threshold = 0.7
    return config
