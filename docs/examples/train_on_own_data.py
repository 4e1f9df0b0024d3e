"""Trains a head on pictures with masks, measures it on unseen categories, and predicts with it.

python docs/examples/train_on_own_data.py --data TREE --test OTHER --out run    # MVTec-style trees
python docs/examples/train_on_own_data.py    # without data: pictures rendered for the example
"""

import argparse
from dataclasses import replace
from pathlib import Path

from bayes_pfl import BayesPFL
from bayes_pfl.config import BackboneConfig, StageConfig, TrainConfig
from bayes_pfl.evaluate.run import run_evaluation
from bayes_pfl.rendering import TEST_CATEGORIES, TRAIN_CATEGORIES, write_mvtec_tree
from bayes_pfl.train.run import TrainingRequest, run_training

# The backbone is small and the steps are few, so the learning rate is larger than the paper's.
CONFIG = TrainConfig(
    stage1=StageConfig(epochs=4, patience=3),
    stage2=StageConfig(epochs=1, patience=1),
    batch_size=16,
    steps_per_epoch=60,
    cache_views=1,
    lr_other=1e-3,
)


def main(
    data: Path | None,
    test: Path | None,
    out: Path,
    config: TrainConfig = CONFIG,
    backbone: str = "bayes-pfl-clip-tiny",
    categories: int = 8,
    images: int = 12,
) -> float:
    data = data or rendered(out / "train", TRAIN_CATEGORIES[:categories], images, seed=0)
    test = test or rendered(out / "test", TEST_CATEGORIES[: categories // 2], images // 2, seed=1)
    request = TrainingRequest(
        data=data,
        out=out / "run",
        backbone=BackboneConfig(backbone),
        config=config,
        accelerator="cpu",
        cache=out / "features",  # keeps the backbone's features, so later epochs are much faster
    )
    state = run_training(request)
    print(f"stage {state.stage}: validation {state.metric} {state.best:.3f}")
    print(f"best checkpoint: {out / 'run' / 'best'}")

    model = BayesPFL.from_pretrained(out / "run")
    for table in run_evaluation(model, "own head", [test], out / "results").values():
        print(table)
    picture = next(iter(sorted(test.glob("*/test/*/*.png"))))
    result = model.predict(picture, class_name=picture.parents[2].name.replace("_", " "))
    print(result.score, result.interval, *result.save(out / "first.png"))
    return state.best


def rendered(folder: Path, categories: tuple[str, ...], images: int, seed: int) -> Path:
    """Render an MVTec tree with as many normal as faulty pictures of each category."""
    if not folder.exists():
        write_mvtec_tree(folder, categories, normals=images, anomalies=images, seed=seed)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--out", type=Path, default=Path("example-train"))
    parser.add_argument("--epochs", type=int, default=CONFIG.stage1.epochs)
    given = parser.parse_args()
    longer = replace(CONFIG, stage1=replace(CONFIG.stage1, epochs=given.epochs))
    main(given.data, given.test, given.out, longer)
