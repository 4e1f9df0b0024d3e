"""``bayes-pfl export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from bayes_pfl.cli import class_names, profiles
from bayes_pfl.cli import options as opt
from bayes_pfl.errors import ConfigError


def export(
    detector: Annotated[
        str,
        Argument(
            help="Folder of bayes-pfl fit; or embedded name, checkpoint or run folder, or hub "
            "repository org/name[@rev]."
        ),
    ],
    out: Annotated[Path, Option(help="Folder to make; if it exists it must be empty.")],
    class_name: class_names.ClassName = None,
    checkpoint: Annotated[
        str | None, Option(help="Checkpoint of a profile, if it is not where the profile says.")
    ] = None,
    pretrained: opt.Pretrained = None,
    samples: Annotated[
        int | None,
        Option(min=0, help="Monte Carlo samples R; 0: the mean prompt.  [default: the profile's]"),
    ] = None,
    seed: Annotated[
        int | None, Option(min=0, help="Seed of the samples.  [default: the profile's, or 0]")
    ] = None,
    format: Annotated[
        Literal["onnx", "openvino"], Option(help="onnx: for ONNX Runtime. openvino: for OpenVINO.")
    ] = "onnx",
    precision: Annotated[
        Literal["float32", "float16", "int8"],
        Option(help="Numbers of the weights, and of the arithmetic where the runtime has it."),
    ] = "float32",
    calibrate: Annotated[
        Path | None,
        Option(help="Folder of normal pictures for int8.  [default: those of the profile]"),
    ] = None,
    accept_drop: Annotated[
        float,
        Option(min=0, max=100, help="Points of AUROC that less than float32 may cost."),
    ] = 2.0,
) -> None:
    """A detector as one folder that runs without PyTorch: model, manifest, predict.py.

    The folder is compared with PyTorch on rendered pictures, and kept only where both agree. What
    float16 and int8 cost is printed and kept in the manifest.
    """
    from bayes_pfl.export.folder import export_detector
    from bayes_pfl.export.model_file import require_export_packages
    from bayes_pfl.fit.profile_files import is_profile

    require_export_packages()
    folder = Path(detector) if is_profile(detector) else None
    if folder is None and checkpoint is not None:
        raise ConfigError("--checkpoint without a profile: name the checkpoint alone")
    profile, checkpoint = profiles.opened(folder, checkpoint if folder else detector)
    model = opt.load_model(checkpoint, "cpu", pretrained)
    if profile is None:
        class_names.warn_of_names(model, class_name)
    with opt.bars() as progress:
        found = export_detector(
            model,
            out,
            class_name=class_name,
            profile=profile,
            samples=samples,
            seed=seed,
            checkpoint=checkpoint,
            format=format,
            precision=precision,
            calibrate=calibrate,
            accept_drop=accept_drop,
            progress=progress,
        )
    opt.say(
        f"{found.agreement.pictures} pictures compared with PyTorch: scores within "
        f"{found.agreement.score:.1g}, maps within {found.agreement.map:.1g}"
    )
    if found.calibrated_on:
        opt.say(f"int8 calibrated on {found.calibrated_on}")
    if price := found.price:
        before, after = (size / 1e6 for size in found.sizes)
        opt.say(
            f"{price.pictures} rendered pictures, float32 -> {precision}: image AUROC "
            f"{price.image_before:.1f} -> {price.image:.1f}, pixel AUROC {price.pixel_before:.1f} "
            f"-> {price.pixel:.1f}, model {before:.1f} -> {after:.1f} MB"
        )
    opt.say(f"{found.class_name}: written to {out}; run: python {out}/predict.py PHOTOS --out DIR")
