"""The correspondence network of tracking, trained on still images (docs/tracking.md).

On the synthetic crowd alone, or half on it and half on a dataset with keypoints; the weights
in the package are of the second, on COCO stills:

    python tools/train_correspondences.py --config configs/correspondences.py --workdir runs/corr
    python tools/train_correspondences.py --config configs/correspondences.py --workdir runs/corr \
        --config.dataset.data_dir=COCO
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.synthcrowd.image_size = 256
    config.synthcrowd.people = (1, 5)
    config.synthcrowd.pair_iou = 0.35
    config.train.batch_size = 8  # pairs
    config.train.learning_rate = 1e-3  # of each stage, falling to 0 as a cosine
    config.train.log_every = 20
    config.train.checkpoint_every = 100

    config.correspondences = ConfigDict()
    config.correspondences.affinity_loss = "softmax"  # or "bce"
    config.correspondences.refinement_loss = "plain"  # or "balanced"
    config.correspondences.affinity_steps = 900  # stage 1: features
    config.correspondences.refinement_steps = 350  # stage 2: refinement, features frozen
    config.correspondences.num_checks = 200  # held-out pairs of each kind of still

    config.stills = ConfigDict()
    config.stills.synthetic = 0.5  # share of the pairs; 1 where dataset.data_dir is empty
    config.stills.num_synthetic = 1500  # rendered once, when the training starts
    config.stills.people = 4  # whose joints are asked, in a pair; the largest
    config.stills.min_joints = 5  # seen ones of a person that is cropped
    config.stills.min_side = 48.0  # pixels of the longer side of that person's box
    config.stills.view_size = 256  # pixels
    config.stills.crop = (0.7, 2.4)  # side in longer sides of the box; the wide ones hold crowds
    config.stills.rotation = 30.0  # degrees, of each view, to either side
    config.stills.scale = (0.75, 1.4)
    config.stills.shift = 0.2  # of the side, to either side
    config.stills.flip = 0.25  # probability, of view b
    config.stills.brightness = 0.25  # to either side of 1, as the next two
    config.stills.contrast = 0.25
    config.stills.colour = 0.08
    config.stills.noise = 0.02  # standard deviation, of white
    config.stills.patch = (0.05, 0.3)  # sides of the rectangle pasted, of the view's
    return config
