"""The head of the report: what was evaluated, names and what they are."""

import datetime
import os

from ml_collections import ConfigDict

from pinet_jax.evaluation.coco_annotations import counts
from pinet_jax.evaluation.ground_truth import GroundTruth


def of_model(config: ConfigDict, model: str) -> dict[str, str]:
    """The data, where the model is from (if that is said), and how it was tested."""
    settings = config.eval
    test = (
        f"input size {settings.input_size}",
        f"scales {', '.join(f'{scale:g}' for scale in settings.scales)}",
        f"{'with' if settings.flip else 'without'} flip",
        f"{'with' if settings.pose_fusion else 'without'} pose fusion",
    )
    return {
        "data": f"{config.dataset.name} {config.dataset.eval_split}",
        **({"model": model} if model else {}),
        "test": "; ".join(test),
    }


def of_scoring(
    config: ConfigDict, truth: GroundTruth, annotations: str | os.PathLike
) -> dict[str, str]:
    """The ground truth, how results were scored with it, and when."""
    persons = sum(map(counts, truth.persons))
    most = config.eval.max_detections
    return {
        "annotations": os.fspath(annotations),
        "size": f"{len(truth.image_ids)} images, {persons} people to find",
        "scoring": f"skeleton {config.dataset.skeleton}, at most {most} detections an image",
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }
