"""COCO keypoints: the paper's recipe, 140 epochs on two devices.

Trained on the images of train2017 with more than 10 labelled keypoints, from a backbone
trained on ImageNet. Published: AP 67.4 on val2017, 66.7 on test-dev. COCO is the folder
of the official download, HRNET the weights of HRNet-W32:

    python -m input_pipeline.prepare coco --raw COCO --data_dir data/coco
    python tools/convert_weights.py HRNET.pth --config configs/coco.py --out runs/imagenet_w32
    python train.py --config configs/coco.py --workdir runs/coco \
        --config.dataset.data_dir=data/coco --config.train.init_from=runs/imagenet_w32
    python eval.py --config configs/coco.py --workdir runs/coco \
        --config.dataset.data_dir=data/coco

Images of test-dev are predicted into results.json, which COCO's server scores:

    --config.dataset.data_dir=COCO --config.dataset.eval_split=test-dev
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    return base.get_config()
