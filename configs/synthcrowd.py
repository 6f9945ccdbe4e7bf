"""PINet-W32 on the synthetic crowd: exact ground truth, nothing to download.

    python train.py --config configs/synthcrowd.py --workdir runs/synthcrowd

The scenes are rendered to disk on the first run. An endless stream, rendered on the
device as training goes and never repeating, is one switch away:

    --config.dataset.name=synthcrowd_stream
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.dataset.name = "synthcrowd"
    config.dataset.data_dir = "runs/synthcrowd_data"
    config.model.conv_init = "he"  # no ImageNet weights to start from
    return config
