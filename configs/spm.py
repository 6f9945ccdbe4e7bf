"""SPM as PINet's tables have it: PINet with one part, the whole person, and no refinement.

On OCHuman, trained as configs/ochuman.py says. Published: AP 47.6, AP50 67.5, AP75 53.2 on test,
with pose fusion 48.1:

    python train.py --config configs/spm.py --workdir runs/spm \
        --config.dataset.data_dir=data/ochuman --config.train.init_from=runs/imagenet_w32
    python eval.py --config configs/spm.py --workdir runs/spm \
        --config.dataset.data_dir=data/ochuman --config.eval.pose_fusion=True
"""

from ml_collections import ConfigDict

from configs import ochuman


def get_config() -> ConfigDict:
    config = ochuman.get_config()
    config.model.method = "spm"
    config.model.partition = "center"
    config.model.refinement = False
    config.eval.pose_fusion = False
    return config
