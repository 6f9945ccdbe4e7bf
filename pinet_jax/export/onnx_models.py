"""A trained model in ONNX, its decoding in NumPy (pinet_onnx.py) beside it."""

import functools
import json
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from pinet_jax import methods, skeletons
from pinet_jax.backbones import by_platform
from pinet_jax.backbones.hrnet import HEATMAP_STRIDE
from pinet_jax.errors import UserError
from pinet_jax.export import pinet_onnx, stablehlo
from pinet_jax.export.stablehlo import Size
from pinet_jax.methods.variables import Variables
from pinet_jax.runtime.progress import Progress

DECODER = "pinet_onnx.py"  # lies beside the models under its own name
DECODING = (  # fields of config.eval that it needs
    "flip",
    "pose_fusion",
    "max_peaks",
    "peak_threshold",
    "peak_windows",
    "peak_window_sides",
    "scale_decrease",
    "oks_threshold",
)


def folder_contents(
    config: ConfigDict, variables: Variables, size: Size, batch: int = 1
) -> dict[str, bytes]:
    """The files of a folder that `pinet_onnx.load` reads, by name.

    The network computes in float32, whatever config.dtype says: onnxruntime has no
    bfloat16 convolution on CPUs.

    Args:
        config: the model and, under `eval`, the test procedure.
        variables: {"params", "batch_stats"} of that model.
        size: height and width of the network's input at scale 1.
        batch: number of images the models take.

    Raises:
        UserError: no image gives that size, the variables are of a backbone alone, or the
            converter is not installed.
    """
    if not hasattr(methods.of(config), "onnx_maps"):
        raise UserError(
            f"There is no ONNX export of config.model.method '{config.model.method}': leave "
            "--onnx out, for StableHLO."
        )
    config = config.copy_and_resolve_references()
    config.dtype = "float32"
    shapes = stablehlo.input_shapes(config, size)
    model = stablehlo.build(config, variables)
    models, contents = [], {}
    with Progress(len(shapes), "convert") as progress:
        for scale, shape in zip(config.eval.scales, shapes, strict=True):
            images = jax.ShapeDtypeStruct((batch, *shape), jnp.uint8)
            converted = _of_one_scale(model, variables, config, images)
            names = {kind: f"{kind}_{shape[0]}x{shape[1]}.onnx" for kind in converted}
            models.append({"scale": scale, "refine": None, **names})
            contents |= {names[kind]: content for kind, content in converted.items()}
            progress.update()
    settings = decoding_settings(config) | {"batch": batch, "size": size, "models": models}
    return contents | {
        DECODER: pathlib.Path(pinet_onnx.__file__).read_bytes(),
        pinet_onnx.SETTINGS: (json.dumps(settings, indent=2) + "\n").encode(),
    }


def decoding_settings(config: ConfigDict) -> dict[str, Any]:
    """What `pinet_onnx.Predictor` must know of the config."""
    skeleton = skeletons.of(config)
    parts = methods.of(config).parts(config)
    return {
        "keypoints": skeleton.keypoints,
        "limbs": skeleton.limbs,
        "sigmas": skeleton.sigmas,
        "flip_order": skeleton.flip_order,
        "part_flip_order": skeleton.part_flip_order(parts) if config.eval.flip else (),
        "stride": HEATMAP_STRIDE,
        **{field: config.eval[field] for field in DECODING},
    }


def _of_one_scale(
    model: nn.Module, variables: Variables, config: ConfigDict, images: jax.ShapeDtypeStruct
) -> dict[str, bytes]:
    """The ONNX models "maps" and, if the network has PR, "refine"."""
    method = methods.of(config)
    maps = functools.partial(method.onnx_maps, model, variables, config)
    names = ("heatmaps", "part_heatmaps", "offsets", "features")
    converted = {"maps": _convert(maps, {"images": images}, names)}
    if model.refinement:
        delta = functools.partial(method.onnx_delta, model, variables)
        inputs = _delta_inputs(jax.eval_shape(maps, images), config)
        converted["refine"] = _convert(delta, inputs, ("delta",))
    return converted


def _delta_inputs(
    maps: tuple[jax.ShapeDtypeStruct, ...], config: ConfigDict
) -> dict[str, jax.ShapeDtypeStruct]:
    """Arrays that `onnx_delta` takes, by name, for maps of these shapes."""
    *_, offsets, features = maps
    views, height, width, parts, keypoints, _ = offsets.shape
    count = parts * min(config.eval.max_peaks, height * width)
    return {
        "features": features,
        "poses": jax.ShapeDtypeStruct((views, count, keypoints, 2), jnp.float32),
        "centers": jax.ShapeDtypeStruct((views, count, 2), jnp.int32),
    }


def _convert(
    function: Callable, inputs: Mapping[str, jax.ShapeDtypeStruct], outputs: Sequence[str]
) -> bytes:
    """The ONNX model of a function of arrays."""
    try:
        from jax2onnx import to_onnx
    except ImportError:
        raise UserError(
            "ONNX needs jax2onnx, which is not installed: see docs/export.md for an "
            "environment that has it."
        ) from None
    _teach_choices()
    with warnings.catch_warnings():
        # The converter asks for float64 constants, which are float32 here as everywhere.
        warnings.filterwarnings("ignore", "Explicitly requested dtype float64")
        model = to_onnx(
            function,
            list(inputs.values()),
            model_name="pinet",
            input_names=list(inputs),
            output_names=list(outputs),
        )
    return model.SerializeToString()


def _teach_choices() -> None:
    """Tells the converter that of the two forms of `by_platform.choose` ONNX gets the usual."""
    from jax2onnx.plugins.jax.lax._control_flow_utils import lower_jaxpr_eqns
    from jax2onnx.plugins.plugin_system import PrimitiveLeafPlugin, register_primitive

    @register_primitive(jaxpr_primitive=by_platform.NAME)
    class Choice(PrimitiveLeafPlugin):
        def lower(self, ctx, eqn) -> None:
            inner = by_platform.usual_of(eqn)
            for outside, inside in zip(eqn.invars, inner.invars, strict=True):
                ctx.bind_value_for_var(inside, ctx.get_value_for_var(outside))
            lower_jaxpr_eqns(ctx, inner)
            for outside, inside in zip(eqn.outvars, inner.outvars, strict=True):
                ctx.bind_value_for_var(outside, ctx.get_value_for_var(inside))
