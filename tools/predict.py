"""The same as ``bayes-pfl predict``; see ``--help``."""

from bayes_pfl.cli.main import run_tool

if __name__ == "__main__":
    run_tool("predict")
