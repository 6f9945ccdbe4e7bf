"""DEKR (Geng et al., CVPR 2021) on COCO: a branch of the network for the offsets of each keypoint.

Trained for 140 epochs on four devices, 10 images each, on every image with a labelled keypoint,
from a backbone trained on ImageNet. Published: AP 68.0 on val2017 (70.7 at three scales), 67.3
(69.8) on test-dev. COCO is the folder of the official download, HRNET the weights of HRNet-W32:

    python -m input_pipeline.prepare coco --raw COCO --data_dir data/coco
    python tools/convert_weights.py HRNET.pth --config configs/dekr_coco.py --out runs/imagenet_w32
    python train.py --config configs/dekr_coco.py --workdir runs/dekr_coco \
        --config.dataset.data_dir=data/coco --config.train.init_from=runs/imagenet_w32
    python eval.py --config configs/dekr_coco.py --workdir runs/dekr_coco \
        --config.dataset.data_dir=data/coco

At three scales, and with HRNet-W48 (published: AP 71.0, at three scales 72.3):

    --config.eval.scales=0.5,1,2
    --config.model.width=48 --config.train.input_size=640 --config.eval.input_size=640

The published figures are with the scoring net, which is trained after the network and then
asked for:

    python tools/train_scoring_net.py --checkpoint runs/dekr_coco --out runs/dekr_coco_scored \
        --config.dataset.data_dir=data/coco
    python eval.py --config configs/dekr_coco.py --checkpoint runs/dekr_coco_scored \
        --config.dataset.data_dir=data/coco --config.eval.scoring_net=True

Its own suppression, that by OKS, and pose fusion, each without and with the scoring net:

    python eval.py --config configs/dekr_coco.py --checkpoint runs/dekr_coco_scored \
        --config.dataset.data_dir=data/coco --compare_suppression
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model.method = "dekr"
    config.dataset.min_train_keypoints = 1
    config.targets.area = "released"
    config.targets.square_radius = 4
    config.eval.suppression = "dekr"
    config.eval.pose_fusion = False
    config.eval.scale_decrease = 0.9
    return config
