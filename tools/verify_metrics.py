"""The same as ``bayes-pfl verify-metrics``; see ``--help``."""

from bayes_pfl.cli.main import run_tool

if __name__ == "__main__":
    run_tool("verify-metrics")
