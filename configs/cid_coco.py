"""CID (Wang and Zhang, CVPR 2022) on COCO: a heatmap of one person at a time.

Trained for 140 epochs on two devices, 20 images each, from a backbone trained on ImageNet.
Published: AP 69.8 on val2017, 69.1 on test-dev. COCO is the folder of the official download,
HRNET the weights of HRNet-W32:

    python -m input_pipeline.prepare coco --raw COCO --data_dir data/coco
    python train.py --config configs/cid_coco.py --workdir runs/cid_coco \
        --config.dataset.data_dir=data/coco --config.train.init_from=HRNET.pth
    python eval.py --config configs/cid_coco.py --workdir runs/cid_coco \
        --config.dataset.data_dir=data/coco

Released weights as they are:

    python eval.py --config configs/cid_coco.py --checkpoint FILE.pth.tar --out found \
        --config.dataset.data_dir=data/coco
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model.method = "cid"
    config.dataset.min_train_keypoints = 1
    config.eval.flip_shift = 0
    config.eval.pose_fusion = False
    config.eval.oks_threshold = 0.8
    return config
