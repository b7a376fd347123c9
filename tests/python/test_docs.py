"""The pages of documentation: their links lead somewhere, and what the README shows runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benches/*.md"), *ROOT.glob("examples/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page):
    """The text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page):
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert target.suffix == ".md" and anchor in anchors(target), f"{link}: no such heading"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)


def words(command, folder):
    """The arguments of `arrow-quant ...` of the README, with an output folder of their own."""
    program, *arguments = shlex.split(command)
    assert program == "arrow-quant"
    return [folder / word if word == "OUT" else word for word in arguments]


def test_the_command_of_the_readme_says_what_the_readme_shows(program, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    command, *shown = blocks("console")[0].splitlines()
    lines = program(*words(command.removeprefix("$ "), tmp_path)).replace(str(tmp_path / "OUT"), "OUT")
    times = re.compile(r"in \d.*")
    # The README breaks the line on shares and cuts it short; times and memory differ from run to run.
    shares, separator, _ = " ".join(shown).partition(" ...")
    assert separator and shares in lines
    for line in shown[-3:]:
        assert times.sub("", line) in times.sub("", lines), line


def test_the_query_of_the_readme_runs(program, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    queries = [block for block in blocks("sh") if block.startswith("arrow-quant sql")]
    assert len(queries) == 1
    assert "mlp" in program(*words(queries[0], tmp_path))


def test_the_python_of_the_readme_runs(tmp_path):
    pytest.importorskip("arrow_quant")
    (block,) = blocks("python")
    code = block.replace('"OUT"', repr(str(tmp_path / "OUT")))
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120, check=True)
    assert (tmp_path / "OUT/report.parquet").exists()
