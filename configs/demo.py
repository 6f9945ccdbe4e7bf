"""A PINet small enough to train on two CPU cores in minutes, on synthetic crowds.

python train.py --config configs/demo.py --workdir runs/demo
python eval.py --config configs/demo.py --workdir runs/demo
"""

from ml_collections import ConfigDict

from configs import synthcrowd


def get_config() -> ConfigDict:
    config = synthcrowd.get_config()
    config.dtype = "float32"  # CPUs gain nothing from bfloat16

    config.dataset.data_dir = "runs/synthcrowd_demo"
    config.dataset.max_persons = 6
    config.synthcrowd.image_size = 128
    config.synthcrowd.people = (2, 3)
    config.synthcrowd.pair_iou = 0.3
    config.synthcrowd.height = (0.75, 0.95)
    config.synthcrowd.yaw = 45.0
    config.synthcrowd.num_train = 3000
    config.synthcrowd.num_val = 200

    config.model.width = 16
    config.model.stem_width = 32
    config.model.bottlenecks = 1
    config.model.modules = (1, 1, 1)
    config.model.blocks = 2
    config.model.conv_init = "he"

    config.targets.sigma = 1.5  # of a 32-pixel map; the offsets matter more than usual
    config.losses.offset_weight = 0.3
    config.losses.refinement_weight = 0.3
    config.losses.samples_per_part = 5

    config.augmentation.rotation = 5.0  # the crowd is varied enough, and the training short
    config.augmentation.scale = (0.95, 1.1)
    config.augmentation.translation = 10.0

    config.train.input_size = 128
    config.train.batch_size = 4  # many small steps at a high rate learn most in minutes
    config.train.epochs = 4.0
    config.train.schedule = "cosine"
    config.train.learning_rate = 5e-3
    config.train.warmup_steps = 100
    config.train.checkpoint_every = 500

    config.eval.input_size = 128
    config.eval.batch_size = 20
    return config
