"""The one build step that pyproject.toml cannot describe: the wheel carries two data folders."""

import shutil
import warnings
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CARRIED = ("datasets", "checkpoints")

# Setuptools says at every editable install that a folder of the package's name in the working
# directory may be imported in its place. Here that folder is the package.
warnings.filterwarnings("ignore", message="Editable installation")


class BuildWithResources(build_py):
    """Copies the carried folders to bayes_pfl/_resources in the build tree."""

    def run(self):
        super().run()
        if self.editable_mode:  # the package then reads them where they lie in the checkout
            return
        target = Path(self.build_lib) / "bayes_pfl" / "_resources"
        for name in CARRIED:
            shutil.copytree(ROOT / name, target / name, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithResources})
