"""What docs/security.md promises: nothing is run, checksums hold, licences and audits are told."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from bayes_pfl.clip.load import load_backbone
from bayes_pfl.config import BackboneConfig
from bayes_pfl.errors import BackboneError, CheckpointError
from bayes_pfl.support import checksums
from bayes_pfl.support.checksums import LISTING, check_download, embedded_sha256, file_sha256
from bayes_pfl.support.resources import resource_dir
from tests.helpers.paths import ROOT

SOURCES = sorted([*ROOT.glob("bayes_pfl/**/*.py"), *ROOT.glob("tools/*.py")])
# Calls that run what they read, or that a name from a file could turn against the user.
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "marshal.loads"),
    *("pickle.load", "pickle.loads", "torch.jit.load", "torch.hub.load", "joblib.load"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "shutil.unpack_archive"),
}
NEEDED = {
    "torch.load": "weights_only",
    "np.load": "allow_pickle",
    "jinja2.Environment": "autoescape",
}


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call in a file, by its dotted name."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [(ast.unparse(node.func), node) for node in nodes if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_call_runs_what_it_reads(path):
    for name, call in calls(path):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        where = f"{path}:{call.lineno} {name}"
        assert name not in FORBIDDEN and not name.endswith((".extractall", ".extract")), where
        assert given.get("shell", "False") == "False" and "trust_remote_code" not in given, where
        if name in NEEDED:
            safe = {"weights_only": "True", "allow_pickle": "False", "autoescape": "True"}
            assert given.get(NEEDED[name]) == safe[NEEDED[name]], where


def test_the_search_would_see_such_calls(tmp_path):
    found = tmp_path / "bad.py"
    found.write_text("import torch\ntorch.load('x')\nx.extractall()\n", encoding="utf-8")
    assert [name for name, _ in calls(found)] == ["torch.load", "x.extractall"]
    with pytest.raises(AssertionError):
        test_no_call_runs_what_it_reads(found)


def test_every_embedded_file_is_listed_with_its_checksum():
    folder = resource_dir("checkpoints")
    files = [*folder.glob("*/*.json"), *folder.glob("*/*.safetensors")]
    found = {f"{path.parent.name}/{path.name}": file_sha256(path) for path in files}
    hint = f"cd checkpoints && sha256sum */*.json */*.safetensors > {LISTING}"
    assert len(found) >= 4 and embedded_sha256() == found, hint


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_config.json"])
def test_damaged_embedded_backbone_is_told(name, tmp_path, monkeypatch):
    copy = tmp_path / "checkpoints"
    shutil.copytree(resource_dir("checkpoints"), copy)
    path = copy / "bayes-pfl-clip-tiny" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    for module in ("clip.load", "support.checksums"):
        monkeypatch.setattr(f"bayes_pfl.{module}.resource_dir", lambda kind: copy)
    with pytest.raises(BackboneError, match=f"{name}: SHA-256 is .*, it was shipped as"):
        load_backbone(BackboneConfig("bayes-pfl-clip-tiny"))


def test_a_file_is_hashed_once_and_anew_when_it_changes(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    before = checksums._digest.cache_info()
    assert file_sha256(path) == file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    after = checksums._digest.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 1)
    path.write_bytes(b"two")
    assert file_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_downloads_are_compared_with_what_was_published(tmp_path):
    digest = hashlib.sha256(b"weights").hexdigest()
    blob = tmp_path / "blobs" / digest  # as the hub's cache keeps large files
    blob.parent.mkdir()
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    address = f"https://example.org/{digest}/ViT-B-32.pt"  # as OpenAI's addresses are
    plain = tmp_path / "ViT-B-32.pt"
    for content in (b"weights", b"changed"):
        blob.write_bytes(content)
        plain.write_bytes(content)
        for path, url in ((link, ""), (plain, address)):
            if content == b"weights":
                check_download(path, CheckpointError, url)
                continue
            with pytest.raises(CheckpointError, match=f"published as {digest[:12]}") as caught:
                check_download(path, CheckpointError, url)
            assert "\n" not in str(caught.value)
    check_download(plain, CheckpointError)  # nobody told of a checksum


@pytest.fixture
def tools(monkeypatch):
    """The modules dependencies and audit of tools/."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import audit
    import dependencies

    return dependencies, audit


@pytest.fixture
def invented(tmp_path, monkeypatch, tools):
    """Installs packages that do not exist, so that no release of a real one decides a test.

    The first one stands for this package. Values are lines of METADATA.
    """

    def install(**packages: list[str]) -> None:
        for name, lines in packages.items():
            name = name.replace("_", "-")
            folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
            folder.mkdir()
            head = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0"]
            (folder / "METADATA").write_text("\n".join([*head, *lines, ""]), encoding="utf-8")
        for module in tools:
            monkeypatch.setattr(module, "PACKAGE", next(iter(packages)).replace("_", "-"))

    monkeypatch.syspath_prepend(str(tmp_path))
    return install


def test_closure_follows_what_is_installed_and_asked_for(tools, invented):
    dependencies, _ = tools
    invented(
        invented_own=[
            "Requires-Dist: invented-first[more]>=0.1",
            "Requires-Dist: invented-for-tests; extra == 'dev'",
            "Requires-Dist: invented-elsewhere; sys_platform == 'another'",
        ],
        invented_first=[
            "Requires-Dist: invented-second; extra == 'more'",
            "Requires-Dist: invented-not-installed",
        ],
        invented_second=["Requires-Dist: invented-first"],  # a circle
        invented_for_tests=[],
        invented_elsewhere=[],
    )
    assert dependencies.direct() == ["invented-first"]
    assert dependencies.closure() == {"invented-first": "1.0", "invented-second": "1.0"}


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        (["License-Expression: MIT AND 0BSD"], "MIT AND 0BSD"),
        (["Classifier: License :: OSI Approved :: Apache Software License"], "Apache-2.0"),
        (["License: 3-Clause BSD License"], "BSD-3-Clause"),
        (
            ["License: BSD-3-Clause", "Classifier: License :: OSI Approved :: BSD License"],
            "BSD-3-Clause",
        ),
        (["License: " + "many words " * 9], "unknown"),
        ([], "unknown"),
    ],
)
def test_licence_is_read_from_any_of_the_three_fields(tools, invented, lines, licence):
    dependencies, _ = tools
    invented(invented=lines)
    assert dependencies.licence("invented") == licence


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["License: NVIDIA Proprietary Software"],
        ["Classifier: License :: Other/Proprietary License"],
        ["License-Expression: LicenseRef-Something-New"],
    ],
)
def test_vendors_words_for_their_licence_do_not_matter(tools, invented, lines):
    dependencies, _ = tools
    invented(nvidia_invented=lines, cuda_invented=["License-Expression: Apache-2.0"], other=lines)
    found = dependencies.licence("nvidia-invented")
    assert found == dependencies.VENDOR and not dependencies.refused("nvidia-invented", found)
    assert dependencies.licence("cuda-invented") == "Apache-2.0"
    assert dependencies.refused("other", dependencies.licence("other"))


def test_other_licences_would_be_refused(tools):
    dependencies, _ = tools
    assert dependencies.refused("x", "GPL-3.0-only OR MIT") == ["GPL-3.0-only"]
    assert dependencies.refused("x", "unknown") == ["unknown"]
    assert dependencies.refused("x", dependencies.VENDOR)
    assert not dependencies.refused("nvidia-nccl-cu13", dependencies.VENDOR)
    assert not dependencies.refused("x", "Apache-2.0 WITH LLVM-exception AND (MIT)")


def test_page_of_licences_names_the_direct_dependencies(tools):
    dependencies, _ = tools
    page = dependencies.PAGE.read_text(encoding="utf-8").split(dependencies.MARK)[1]
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| [")]
    names = [cell.split("]")[0].strip(" [") for cell, _ in rows]
    assert names == dependencies.direct()
    for name, (_, text) in zip(names, rows, strict=True):
        assert dependencies.refused(name, text.strip()) == []


def tool(folder: Path, name: str, answer: object) -> None:
    """A program in place of pip-audit or cyclonedx-py that prints a fixed answer."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.skipif(os.name == "nt", reason="stands in for the tools by shell scripts")
def test_audit_tells_what_is_known_and_what_nobody_answered(tools, tmp_path, capsys):
    _, audit = tools
    known = {"id": "PYSEC-1", "fix_versions": ["2.1"]}
    answer = [
        {"name": "a", "version": "2.0", "vulns": [known]},
        {"name": "b", "version": "1.0", "vulns": []},
        {"name": "c", "skip_reason": "not found"},
    ]
    tool(tmp_path, "pip-audit", {"dependencies": answer})
    packages = {"a": "2.0+cpu", "b": "1.0", "c": "3"}
    found = audit.vulnerabilities(tmp_path, packages)
    assert found == ["vulnerable: a 2.0: PYSEC-1, fixed in 2.1"]
    assert "NOT AUDITED: 1 of 3 packages" in capsys.readouterr().out
    tool(tmp_path, "pip-audit", "no network")
    assert audit.vulnerabilities(tmp_path, packages) == []
    assert "NOT AUDITED: the list of advisories cannot be reached" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="stands in for the tools by shell scripts")
@pytest.mark.parametrize("licence", ["MIT", "GPL-3.0-only"])
def test_audit_fails_at_a_licence_that_is_not_allowed(tools, invented, tmp_path, licence, capsys):
    _, audit = tools
    invented(own=["Requires-Dist: invented"], invented=[f"License-Expression: {licence}"])
    tool(tmp_path, "pip-audit", {"dependencies": [{"name": "invented", "version": "1.0"}]})
    part = {"name": "invented", "bom-ref": "invented==1.0"}
    tool(tmp_path, "cyclonedx-py", {"components": [part]})
    out = tmp_path / "dist" / "sbom.json"
    if licence == "MIT":
        audit.main(tools=tmp_path, out=out)
    else:
        with pytest.raises(audit.typer.Exit) as stopped:
            audit.main(tools=tmp_path, out=out)
        assert stopped.value.exit_code == 1
        assert "invented is under GPL-3.0-only" in capsys.readouterr().out
    assert json.loads(out.read_text(encoding="utf-8"))["components"] == [part]


def test_bill_of_materials_leaves_out_what_is_not_needed_to_run(tools):
    _, audit = tools
    bill = {
        "metadata": {"tools": []},
        "components": [{"name": n, "bom-ref": f"{n}==1"} for n in ("Torch", "pytest", "numpy")],
        "dependencies": [
            {"ref": "Torch==1", "dependsOn": ["numpy==1", "pytest==1"]},
            {"ref": "pytest==1", "dependsOn": []},
        ],
    }
    found = audit.only(bill, {"torch", "numpy"})
    assert [part["name"] for part in found["components"]] == ["Torch", "numpy"]
    assert found["dependencies"] == [{"ref": "Torch==1", "dependsOn": ["numpy==1"]}]
    assert found["metadata"]["component"]["name"] == "bayes-pfl"
