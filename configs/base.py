"""What every config shares: the method's numbers, each in this one place.

The values are the paper's COCO recipe with the released code's behaviour.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.dtype = "bfloat16"  # of convolutions; "float32" for parity
    config.parallel = "pmap"  # or "shard_map"
    config.bn_sync = False  # batch statistics over all devices instead of each
    config.compilation_cache = "~/.cache/pinet_jax/xla"  # "" switches it off

    config.dataset = ConfigDict()
    # coco | ochuman | crowdpose | custom | synthcrowd (on disk) | synthcrowd_stream
    config.dataset.name = "coco"
    config.dataset.skeleton = "coco"  # see pinet_jax/skeletons.py
    config.dataset.custom_skeleton = ConfigDict()  # one's own: skeletons.use
    # The official download or what input_pipeline.prepare made of it; where a synthetic
    # crowd is rendered.
    config.dataset.data_dir = ""
    config.dataset.annotations = "annotations/{split}.json"  # of "custom", in data_dir
    config.dataset.images = "images"  # of "custom", in data_dir; may hold {split}
    config.dataset.prepared_dir = "~/.cache/pinet_jax/datasets"  # TFDS files of downloads
    config.dataset.train_split = "train"
    config.dataset.eval_split = "val"
    config.dataset.max_persons = 30  # padding; an image keeps its largest persons
    config.dataset.min_train_keypoints = 11  # labelled, in the whole image
    config.dataset.skip_invalid = False  # count invalid data instead of stopping
    config.dataset.num_workers = 4  # images read, augmented or rendered at a time

    config.augmentation = ConfigDict()
    config.augmentation.rotation = 30.0  # degrees to either side
    config.augmentation.scale = (0.75, 1.5)  # crop side in the image's short sides
    config.augmentation.translation = 40.0  # to either side; the crop side is 200
    config.augmentation.flip = 0.5  # probability

    config.synthcrowd = ConfigDict()
    config.synthcrowd.image_size = 512  # square, pixels
    config.synthcrowd.people = (2, 8)  # fewest and most in a scene
    config.synthcrowd.pair_iou = 0.67  # wanted mean IoU of a person's box with its nearest
    config.synthcrowd.height = (0.5, 0.95)  # of a standing person, in image heights
    config.synthcrowd.yaw = 180.0  # degrees a person turns from the camera, either side
    config.synthcrowd.num_train = 4000
    config.synthcrowd.num_val = 500

    config.synthvideo = ConfigDict()
    config.synthvideo.image_size = 256  # square, pixels
    config.synthvideo.frames = 48  # of a video
    config.synthvideo.num_videos = 4  # of each kind, see input_pipeline/synthvideo/kinds.py

    config.model = ConfigDict()
    config.model.method = "pinet"  # see pinet_jax/methods
    config.model.width = 32  # channels of HRNet's finest branch: 18, 32, 48
    config.model.stem_width = 64
    config.model.bottlenecks = 4  # in stage 1
    config.model.modules = (1, 4, 3)  # in stages 2, 3, 4
    config.model.blocks = 4  # residual blocks a branch of a module
    config.model.conv_init = "released"  # N(0, 0.001^2); "he" for short trainings
    config.model.partition = "part-large"
    config.model.refinement = True
    config.model.graph = "dynamic"  # dynamic | static | none
    config.model.graph_layers = 2
    config.model.sampling = "released"  # or "exact"
    config.model.keypoint_channels = 15  # DEKR: of the branch for a keypoint's offsets
    config.model.instance_channels = 32  # CID: of the maps that an instance is told apart in
    config.model.instance_reach = 32.0  # CID: heatmap pixels from the centre that read as 1

    config.targets = ConfigDict()
    config.targets.convention = "released"  # or "paper"
    config.targets.area = "box"  # of a person: width x height; or "segment", the annotation's own
    config.targets.mask_outside = True  # no heatmap loss where a crop leaves the photo
    config.targets.sigma = 2.0  # heatmap pixels
    config.targets.center_sigma = 4.0  # DEKR: of the centre of a person, heatmap pixels
    config.targets.background_weight = 0.1  # of the heatmap loss away from points
    config.targets.min_area = 32.0**2  # input pixels squared; smaller persons get none
    config.targets.square_radius = 2  # released offset neighbourhood [c-2, c+2)
    config.targets.disc_radius2 = 2.0  # paper's offset neighbourhood d^2 <= 2
    config.targets.min_box_overlap = 0.7  # CID: IoU that the radius of a Gaussian keeps
    config.targets.center_jitter = 1  # CID: heatmap pixels a centre moves at most, x and y
    config.targets.max_instances = 200  # CID: trained on, of a device's images together

    config.losses = ConfigDict()
    config.losses.offset_weight = 0.03
    config.losses.refinement_weight = 0.03
    config.losses.smooth_l1_beta = 1 / 9
    config.losses.samples_per_part = 40  # locations the refinement is trained on
    config.losses.focal_alpha = 2  # CID: exponent of what is still wrong
    config.losses.focal_beta = 4  # CID: exponent of the distance from a target of 1
    config.losses.instance_weight = 4.0  # CID: of the instances' own heatmaps
    config.losses.contrastive_weight = 1.0  # CID: of telling the instances of an image apart
    config.losses.temperature = 0.05  # CID: of the cosine similarities of instances

    config.train = ConfigDict()
    config.train.init_from = ""  # checkpoint or released file, of the model or its backbone
    config.train.input_size = 512
    config.train.batch_size = 40  # over all devices
    config.train.accumulation = 1  # parts a device's share is worked off in, to save memory
    config.train.epochs = 140.0
    config.train.learning_rate = 1e-3
    config.train.schedule = "step"  # or "cosine"
    config.train.drop_epochs = (90.0, 120.0)  # "step": the rate drops here
    config.train.drop_factor = 0.1  # "step": to so much of it, each time
    config.train.warmup_steps = 0
    config.train.log_every = 50  # steps
    config.train.checkpoint_every = 1000  # steps
    config.train.keep_checkpoints = 3  # newest
    config.train.eval_every = 0  # steps between evaluations, which keep the best; 0: none

    config.scoring = ConfigDict()  # training of DEKR's scoring net
    config.scoring.learning_rate = 1e-3
    config.scoring.epochs = 20
    config.scoring.batch_size = 1024  # people found

    config.eval = ConfigDict()
    config.eval.input_size = 512  # short side at scale 1
    config.eval.square = 0.0  # else side of a square view, in short sides: one size for all
    config.eval.batch_size = 8
    config.eval.scales = (1.0,)
    config.eval.flip = True
    config.eval.flip_shift = 3  # pixels the mirrored image moves left
    config.eval.suppression = "oks"  # or "dekr": by the distances of keypoints, without fusion
    config.eval.pose_fusion = True
    config.eval.max_peaks = 30  # a part
    config.eval.peak_threshold = 0.01
    config.eval.peak_windows = (3, 5, 7)  # heatmap pixels; side of the square a peak rules
    # Mean side of a heatmap above which each further window is the one, heatmap pixels.
    config.eval.peak_window_sides = (200.0, 300.0)
    config.eval.scale_decrease = 1.0  # factor on part scores of other scales
    config.eval.smoothing = 3  # CID: heatmap pixels; side of the square maps are averaged over
    config.eval.oks_threshold = 0.7  # of the suppression
    # "dekr": keypoints are near at so many diagonals of a pose's box, at one scale and at several.
    config.eval.near_distances = (0.05, 0.15)
    config.eval.near_keypoints = 8  # "dekr": poses with more near ones are of one person
    config.eval.max_people = 30  # "dekr": kept an image
    config.eval.scoring_net = False  # scores by the checkpoint's scoring net (DEKR)
    config.eval.max_detections = 20  # scored an image
    # Of a person's box with its nearest: edges of the intervals that AP is told by.
    config.eval.iou_intervals = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)

    config.tracking = ConfigDict()
    config.tracking.method = "correspondences"  # oks | flow | correspondences
    config.tracking.max_people = 80  # people of a frame, and live tracks
    config.tracking.max_age = 15  # frames that a track unseen stays live; 0: none
    config.tracking.valid_score = 0.1  # joints of a lower score are not there
    config.tracking.min_joints = 2  # valid ones of a person that is linked or born
    config.tracking.view_size = 512  # pixels; the long side of a frame as the method sees it
    config.tracking.box_margin = 10.0  # around valid joints, pixels of that view
    config.tracking.link_oks = 0.2  # a link, a proposal or a vote has a larger OKS
    config.tracking.final_score = 0.3  # joints of a lower score are removed at the end
    config.tracking.min_length = 3  # frames; shorter tracks are removed at the end
    config.tracking.merge = False  # join tracks over longer gaps; needs the whole video
    # "correspondences" alone, from here on.
    config.tracking.weights = ""  # .npz of tools/train_correspondences.py; "": the package's
    config.tracking.features = "own"  # or "shared": read off the model's backbone
    config.tracking.normalise = "unit"  # features; or "released", by their squared length
    config.tracking.refinement = True  # else R is what A has in 5x5 cells
    config.tracking.odds = 256.0  # of a joint, times those that the refinement gives it, make R
    config.tracking.warp_score = 0.3  # tau_corr: warped joints of a smaller R are void
    config.tracking.read_score = 0.3  # R at a detection's joints counts above it
    config.tracking.link_box = 0.3  # a proposal has a larger mean R in the detection's box
    config.tracking.link_read = 0.6  # and a larger sum of R at the detection's joints
    config.tracking.remove_duplicates = True
    config.tracking.duplicate_ratio = 0.6  # of a detection's scores to those of the matched one
    config.tracking.recovery = True  # of people that were found a frame ago and now are not
    config.tracking.recovery_score = 0.1  # warped joints of a smaller R do not make the crop
    config.tracking.recovery_warped = 3  # joints that do, at least
    config.tracking.recovery_joints = 5  # valid ones of a person recovered, at least
    config.tracking.recovery_crop = 1.25  # side of the crop in longer sides of the box
    config.tracking.recovery_oks = 0.8  # of a person recovered to any of the frame, at most
    config.tracking.recovery_oks_found = 0.6  # and to those that were found
    config.tracking.merge_gap = 60  # frames between two tracks that are merged, at most
    config.tracking.merge_oks = 0.3  # mean OKS of the poses warped across the gap, at least
    return config
