"""Known vulnerabilities and licences of the package's dependencies, and their list: `make audit`.

Asks PyPI's list of advisories with pip-audit; where that cannot be reached, says so and continues.
Fails if a vulnerability is known or a licence is not allowed. Writes the dependencies as an SBOM.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from dependencies import PACKAGE, ROOT, canonicalize_name, closure, licence, refused

TIMEOUT = 600  # describing the environment takes a minute of a free core


def main(
    tools: Annotated[Path, typer.Option(help="Folder that has pip-audit and cyclonedx-py.")],
    out: Annotated[Path, typer.Option(help="SBOM to write, CycloneDX JSON.")] = Path(
        "dist/sbom.json"
    ),
) -> None:
    """Check vulnerabilities and licences, and write the SBOM."""
    packages = closure()
    bill = sbom(tools)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(only(bill, set(packages)), indent=1) + "\n", encoding="utf-8")
    typer.echo(f"{out}: {len(packages)} packages")
    odd = {name: bad for name in packages if (bad := refused(name, licence(name)))}
    for name, bad in odd.items():
        typer.echo(f"licence: {name} is under {', '.join(bad)}, which tools/dependencies.py lacks")
    found = vulnerabilities(tools, packages)
    for line in found:
        typer.echo(line)
    if odd or found:
        raise typer.Exit(1)


def vulnerabilities(tools: Path, packages: dict[str, str]) -> list[str]:
    """A line for each known vulnerability; reports how many packages could not be checked."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        # Builds such as 2.9+cpu are not in the list under that name.
        file.writelines(f"{name}=={text.split('+')[0]}\n" for name, text in packages.items())
        file.flush()
        options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        command = [tools / "pip-audit", "-r", file.name, *options, "--timeout", "5"]
        answer = _run(command)
    if answer is None:
        typer.echo("NOT AUDITED: the list of advisories cannot be reached from here")
        return []
    unknown = [item for item in answer["dependencies"] if "skip_reason" in item]
    if unknown:
        typer.echo(
            f"NOT AUDITED: {len(unknown)} of {len(packages)} packages, for which the list of "
            "advisories has no answer here"
        )
    return [
        f"vulnerable: {item['name']} {item['version']}: {known['id']}, fixed in "
        f"{', '.join(known['fix_versions']) or 'no release yet'}"
        for item in answer["dependencies"]
        for known in item.get("vulns", [])
    ]


def sbom(tools: Path) -> dict[str, Any]:
    """CycloneDX's description of this environment."""
    command = [tools / "cyclonedx-py", "environment", "--output-reproducible", sys.executable]
    found = _run(command)
    if found is None:
        raise typer.BadParameter(f"{command[0]} failed")
    return found


def only(bill: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The SBOM without packages that only tests and tools need."""
    parts = [part for part in bill["components"] if canonicalize_name(part["name"]) in names]
    kept = {part["bom-ref"] for part in parts}
    links = [
        link | {"dependsOn": [ref for ref in link.get("dependsOn", []) if ref in kept]}
        for link in bill.get("dependencies", [])
        if link["ref"] in kept
    ]
    own = {"type": "application", "name": PACKAGE, "bom-ref": PACKAGE}
    metadata = bill.get("metadata", {}) | {"component": own}
    return bill | {"metadata": metadata, "components": parts, "dependencies": links}


def _run(command: list[Any]) -> Any:
    """The parsed JSON that a tool prints; None if it failed."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, cwd=ROOT, check=False
        )
        return json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None


if __name__ == "__main__":
    typer.run(main)
