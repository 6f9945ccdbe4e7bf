"""CrowdPose: the paper's recipe, trained on trainval (300 epochs on two devices).

From a backbone trained on ImageNet, with three residual graph blocks, a global batch of
40, the learning rate divided by 10 at epochs 200 and 260, and people of any size.
Published: AP 68.9, AP50 88.7, AP75 74.7 on test; easy, medium and hard images 75.4, 69.6
and 61.5. CROWDPOSE is the folder of the official download, HRNET the weights of HRNet-W32:

    python -m input_pipeline.prepare crowdpose --raw CROWDPOSE --data_dir data/crowdpose
    python tools/convert_weights.py HRNET.pth --config configs/crowdpose.py --out runs/imagenet_w32
    python train.py --config configs/crowdpose.py --workdir runs/crowdpose \
        --config.dataset.data_dir=data/crowdpose --config.train.init_from=runs/imagenet_w32
    python eval.py --config configs/crowdpose.py --workdir runs/crowdpose \
        --config.dataset.data_dir=data/crowdpose

At three scales (published: AP 69.8, hard images 62.2):

    --config.eval.scales=0.5,1,2

Released weights are converted with

    python tools/convert_weights.py FILE.pth.tar --config configs/crowdpose.py --out runs/crowdpose
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.dataset.name = "crowdpose"
    config.dataset.skeleton = "crowdpose"
    config.dataset.train_split = "trainval"
    config.dataset.eval_split = "test"
    config.dataset.min_train_keypoints = 1
    config.model.graph_layers = 3
    config.targets.min_area = 0.0
    config.train.epochs = 300.0
    config.train.drop_epochs = (200.0, 260.0)
    return config
