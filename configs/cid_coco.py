"""CID (Wang and Zhang, CVPR 2022) on COCO: heatmaps of one person at a time.

Trained as configs/coco.py says, 140 epochs on two devices, 20 images each. Published: AP 69.8 on
val2017, 69.1 on test-dev. COCO is the folder of the official download, HRNET the weights of
HRNet-W32:

    python -m input_pipeline.prepare coco --raw COCO --data_dir data/coco
    python train.py --config configs/cid_coco.py --workdir runs/cid_coco \
        --config.dataset.data_dir=data/coco --config.train.init_from=HRNET.pth
    python eval.py --config configs/cid_coco.py --workdir runs/cid_coco \
        --config.dataset.data_dir=data/coco

Released weights are taken as they are:

    python eval.py --config configs/cid_coco.py --checkpoint FILE.pth.tar \
        --config.dataset.data_dir=data/coco
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    return with_cid(base.get_config())


def with_cid(config: ConfigDict) -> ConfigDict:
    """A config of PINet's, with CID in its place."""
    config.model.method = "cid"
    config.model.graph_layers = base.get_config().model.graph_layers  # of no use here
    config.eval.flip_shift = 0
    config.eval.pose_fusion = False
    config.eval.oks_threshold = 0.8
    return config
