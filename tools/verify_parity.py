"""Compare the model with a folder of the published implementation's outputs.

python tools/verify_parity.py DIR [--json OUT]
"""

from bayes_pfl.cli.main import run_tool

if __name__ == "__main__":
    run_tool("verify-parity")
