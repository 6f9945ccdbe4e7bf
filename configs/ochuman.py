"""OCHuman: the paper's recipe, trained on val (140 epochs on two devices), tested on test.

From a backbone trained on ImageNet, with three residual graph blocks and a global batch
of 20. Published: AP 59.8, AP50 74.9, AP75 65.9 on test. OCHUMAN is the folder of the
official download, HRNET the weights of HRNet-W32:

    python -m input_pipeline.prepare ochuman --raw OCHUMAN --data_dir data/ochuman
    python tools/convert_weights.py HRNET.pth --config configs/ochuman.py --out runs/imagenet_w32
    python train.py --config configs/ochuman.py --workdir runs/ochuman \
        --config.dataset.data_dir=data/ochuman --config.train.init_from=runs/imagenet_w32
    python eval.py --config configs/ochuman.py --workdir runs/ochuman \
        --config.dataset.data_dir=data/ochuman

A model trained on COCO, which has two graph blocks (published: AP 38.3 on val, 37.2 on test):

    python eval.py --config configs/ochuman.py --workdir runs/coco \
        --config.dataset.data_dir=data/ochuman --config.model.graph_layers=2

Released weights are converted with

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
    config.eval.iou_intervals = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the paper's Fig. 5
    return config
