"""DEKR (Geng et al., CVPR 2021) on CrowdPose, trained on trainval for 300 epochs.

As configs/dekr_coco.py, with the learning rate divided by 10 at epochs 200 and 260, and people
of any size. Published: AP 65.7 on test, easy, medium and hard images 73.0, 66.4 and 57.5; at
three scales 67.0, 75.5, 68.0 and 56.9; with HRNet-W48 67.3, at three scales 68.0. CROWDPOSE is
the folder of the official download, HRNET the weights of HRNet-W32:

    python -m input_pipeline.prepare crowdpose --raw CROWDPOSE --data_dir data/crowdpose
    python tools/convert_weights.py HRNET.pth --config configs/dekr_crowdpose.py \
        --out runs/imagenet_w32
    python train.py --config configs/dekr_crowdpose.py --workdir runs/dekr_crowdpose \
        --config.dataset.data_dir=data/crowdpose --config.train.init_from=runs/imagenet_w32
    python eval.py --config configs/dekr_crowdpose.py --workdir runs/dekr_crowdpose \
        --config.dataset.data_dir=data/crowdpose
"""

from ml_collections import ConfigDict

from configs import dekr_coco


def get_config() -> ConfigDict:
    config = dekr_coco.get_config()
    config.dataset.name = "crowdpose"
    config.dataset.skeleton = "crowdpose"
    config.dataset.train_split = "trainval"
    config.dataset.eval_split = "test"
    config.targets.min_area = 0.0
    config.targets.center_sigma = 2.0  # the released code takes the centre for a keypoint
    config.train.epochs = 300.0
    config.train.drop_epochs = (200.0, 260.0)
    config.eval.scale_decrease = 0.8
    config.eval.near_keypoints = 7
    return config
