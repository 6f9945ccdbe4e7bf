"""The paper's experiments on crowds whose occlusion is known, at a size two CPU cores can do.

    python tools/study.py --config configs/study.py --out runs/study

The demo's network, but not its crowd: there everybody's head is seen, and head would lose to
center for a reason of the crowd. pinet_jax/studies/rows.py has the rows and what is expected
of them, docs/study.md the design and how to run it at W32 on a GPU.
"""

from ml_collections import ConfigDict

from configs import demo


def get_config() -> ConfigDict:
    config = demo.get_config()
    config.dataset.name = "synthcrowd_stream"
    config.dataset.data_dir = "runs/study_crowd"
    config.synthcrowd.pair_iou = 0.67
    config.synthcrowd.yaw = 90.0

    config.study = ConfigDict()
    config.study.seeds = 3  # of initial weights and training scenes, 0 and up
    config.study.images = 12_000  # a training sees, all rows alike
    config.study.scenes = 1000  # held out, the same for all runs
    config.study.scored_at = (0.5, 0.75, 1.0)  # shares of a training
    # Held-out scenes of other crowding, for AP by box IoU (Fig. 5): wanted IoU, scenes each.
    config.study.levels = (0.1, 0.3, 0.5, 0.67, 0.8)
    config.study.scenes_a_level = 250
    config.study.draws = 1000  # of the bootstrap
    config.study.confidence = 0.95  # of the intervals
    config.study.max_half_interval = 0.02  # AP; wider: more images before more rows
    return config
