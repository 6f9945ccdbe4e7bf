"""CID on CrowdPose, trained on trainval as configs/crowdpose.py says (300 epochs).

Published: AP 71.2, AP50 89.8, AP75 76.7 on test; easy, medium and hard images 77.9, 71.9 and 63.8
(the paper's text says 71.3). The commands are those of configs/cid_coco.py with the data of
configs/crowdpose.py.
"""

from ml_collections import ConfigDict

from configs import cid_coco, crowdpose


def get_config() -> ConfigDict:
    return cid_coco.with_cid(crowdpose.get_config())
