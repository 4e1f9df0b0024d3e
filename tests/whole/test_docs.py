"""Documents that agree with the code: links, commands, messages, imports; the site builds."""

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import time

import pytest
import typer
import yaml

from bayes_pfl.cli import main as cli
from tests.helpers.browser import chromium, complaints
from tests.helpers.paths import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OUTSIDE = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "datasets/README.md",
        "checkpoints/bayes-pfl-tiny/README.md",
        "checkpoints/bayes-pfl-tiny/APPENDIX.md",
        "checkpoints/bayes-pfl-clip-tiny/README.md",
        "checkpoints/bayes-pfl-clip-tiny/APPENDIX.md",
    )
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def named(paths):
    return pytest.mark.parametrize("page", paths, ids=lambda path: str(path.relative_to(ROOT)))


def prose(page):
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """Of its headings, as GitHub and MkDocs both make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    words = [re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip() for heading in headings]
    slugs = {re.sub(r"[\s-]+", "-", word.lower()) for word in words}
    return slugs | set(re.findall(r"^::: (\S+)", prose(page), re.M))


@named(PAGES + OUTSIDE)
def test_links_lead_somewhere_on_the_file_system(page):
    for link in LINK.findall(prose(page)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        wanted = (page.parent / target).resolve() if target else page
        assert wanted.exists(), f"{link} of {page}"
        if anchor:
            assert anchor in anchors(wanted), f"{link} of {page}"


FILE = re.compile(r"(?<![\w/.-])(?:bayes_pfl|tools|tests|docs)/[\w/-]+\.\w+")
TEST = re.compile(r"(?<![\w/.-])(\w+/test_\w+\.py)")  # below tests/
MODULE = re.compile(r"\bbayes_pfl(?:\.\w+)+")
# Cannot be imported here; tests/integrations runs its guide where it can.
ELSEWHERE = "bayes_pfl.integrations.anomalib"


def importable(names):
    return [name for name in names if not name.startswith(ELSEWHERE)]


@named([page for page in PAGES + OUTSIDE if page.name != "CHANGELOG.md"])
def test_files_and_modules_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    files = FILE.findall(text) + [f"tests/{name}" for name in TEST.findall(text)]
    assert not [name for name in files if not (ROOT / name).exists()]
    for name in importable(MODULE.findall(text)):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError) as error:
            raise AssertionError(f"{name} of {page}") from error


# Commands --------------------------------------------------------------------------------------

COMMAND = re.compile(r"(?:^|`|; |do\s+)bayes-pfl ([^`#\n]+)", re.M)


def commands_in(page):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [" ".join(found.split()) for found in COMMAND.findall(text)]


def find_command(words):
    """The command that the words name, and the words after it."""
    command = typer.main.get_command(cli.app)
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


def options_of(command):
    return {name for option in command.params for name in [*option.opts, *option.secondary_opts]}


@named(PAGES + OUTSIDE)
def test_commands_and_options_exist(page):
    for line in commands_in(page):
        command, rest = find_command(line.split())
        assert command.name != "bayes-pfl" or rest[0].startswith("--"), f"bayes-pfl {line}"
        given = {word.partition("=")[0] for word in rest if re.match(r"--[a-z]", word)}
        known = options_of(command) | {"--help"}
        assert given <= known, f"bayes-pfl {line}: no {', '.join(given - known)}"


def test_commands_are_found_where_there_are_some():
    lines = [line for page in PAGES for line in commands_in(page)]
    assert {"predict", "calibrate", "push", "evaluate", "train"} <= {x.split()[0] for x in lines}
    command, rest = find_command(["datasets", "check", "mvtec"])
    assert (command.name, rest) == ("check", ["mvtec"])


# Python ----------------------------------------------------------------------------------------


def python_in(page):
    text = page.read_text(encoding="utf-8")
    return [code for language, code in FENCE.findall(text) if language == "python"]


@named([page for page in PAGES + OUTSIDE if python_in(page)])
def test_python_compiles_and_its_imports_exist(page):
    for code in python_in(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("bayes_pfl"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


def test_reference_names_exist():
    names = re.findall(r"^::: (\S+)", (DOCS / "reference.md").read_text(encoding="utf-8"), re.M)
    assert len(names) > 20
    for name in importable(names):
        module, _, attribute = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), attribute), name


# Messages --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source():
    """The package's text, with strings that go over several lines joined."""
    files = sorted((ROOT / "bayes_pfl").rglob("*.py"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    text = re.sub(r'"\s*\n\s*f?"', "", text)
    return re.sub(r"\{[^{}]*\}", "@", text)


def quoted_messages():
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \|", text, re.M)
    return rows + re.findall(r"^`([^`]+)`$", text, re.M)


@pytest.mark.parametrize("message", quoted_messages())
def test_messages_of_troubleshooting_are_those_of_the_code(message, source):
    pieces = re.split(r"\.\.\.|\d+|'[^']*'|\(|\)|^cuda", message)
    pieces = [piece.strip(" '\"") for piece in pieces]
    assert any(len(piece) > 5 for piece in pieces)
    for piece in pieces:
        assert piece in source, f"{piece!r} of {message!r}"


# The site --------------------------------------------------------------------------------------


def pages_of(nav):
    for item in nav:
        for entry in item.values():
            yield from [entry] if isinstance(entry, str) else pages_of(entry)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("!ENV", "")
    nav = yaml.safe_load(text)["nav"]
    listed = list(pages_of(nav))
    assert len(listed) == len(set(listed))
    own = {page.relative_to(DOCS).as_posix() for page in PAGES}
    assert {name for name in listed if not name.startswith("project/")} == own


def test_figure_of_the_method_is_what_its_script_draws(tmp_path):
    script = ROOT / "tools" / "method_figure.py"
    subprocess.run([sys.executable, script, tmp_path / "method.svg"], check=True, timeout=60)
    assert (tmp_path / "method.svg").read_bytes() == (DOCS / "images/method.svg").read_bytes()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "REPO_URL": "https://example.org/own"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_site_builds_strictly_and_fetches_nothing(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|img|iframe)[^>]*\ssrc="(?:https?:)?//', text), page
        for link in re.findall(r"<link[^>]*>", text):
            assert not re.search(r'href="(?:https?:)?//', link), page
        assert "fonts.g" not in text, page


def test_pages_link_to_the_repository(site):
    assert 'href="https://example.org/own"' in (site / "index.html").read_text(encoding="utf-8")


def test_links_out_of_the_docs_lead_to_pages_of_the_site(site):
    text = (site / "thresholds.html").read_text(encoding="utf-8")
    assert 'href="project/checkpoints/bayes-pfl-tiny/index.html"' in text
    assert (site / "project/checkpoints/bayes-pfl-tiny/index.html").is_file()
    assert (site / "project/datasets/index.html").is_file()


def test_reference_shows_signatures_and_no_markup_of_docstrings(site):
    text = (site / "reference.html").read_text(encoding="utf-8")
    assert 'id="bayes_pfl.BayesPFL.push_to_hub"' in text
    assert 'id="bayes_pfl.predict.images.predict_stream"' in text
    assert not re.search(r":(class|func|meth):", text) and "<autoref " not in text


def test_search_works_on_a_page_that_was_opened_from_the_disk(site):
    with chromium() as browser:
        browser.get((site / "guides" / "hub.html").as_uri())
        field = browser.find_element("css selector", "[data-md-component=search-query]")
        browser.execute_script("arguments[0].focus()", field)
        field.send_keys("conformal")
        end, found = time.monotonic() + 30, []
        while not found and time.monotonic() < end:
            found = browser.find_elements("css selector", "a.md-search-result__link")
            time.sleep(0.05)
        pages = [link.get_attribute("href") for link in found]
        assert any(page.startswith((site / "thresholds.html").as_uri()) for page in pages)
        assert not complaints(browser)


LINES_OF_A_SCREEN, SCREENS = 50, 3


CARDS = ["checkpoints/bayes-pfl-tiny/README.md", "checkpoints/bayes-pfl-clip-tiny/README.md"]


@named([ROOT / name for name in CARDS])
def test_model_cards_fit_on_three_screens(page):
    assert len(page.read_text(encoding="utf-8").splitlines()) <= LINES_OF_A_SCREEN * SCREENS


FILE_AS_TITLE = re.compile(r"\[(?:[\w-]+/)*[\w-]+\.md\]\(")


@named([page for page in PAGES + OUTSIDE if page.name != "CHANGELOG.md" and page.parent != ROOT])
def test_links_show_titles_and_not_names_of_files(page):
    assert not FILE_AS_TITLE.findall(prose(page))
