"""Pages of HTML: what they show is what the report says."""

import re
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest


class Page(HTMLParser):
    """Text and attributes of a page; fails where tags do not match, or something is loaded from elsewhere."""

    EMPTY = {"meta", "br", "hr", "img", "input"}

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.titles, self.drawings = [], [], [], 0
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        assert tag not in ("script", "link", "img", "iframe") and "src" not in attrs and "href" not in attrs
        self.drawings += tag == "svg"
        self.titles += [attrs["title"]] if "title" in attrs else []
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += [data.strip()] if data.strip() else []


@pytest.fixture(scope="module")
def quantized(program, digits_dit, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "out"
    program("quantize", digits_dit, "--output", out, "--bits", "4", "--bits-for", "mlp=2")
    return out


def test_a_report_is_a_page_of_its_own(program, quantized, digits_dit, tmp_path):
    program("report", quantized, "--html", tmp_path / "a.html")
    page = Page((tmp_path / "a.html").read_text())
    report = pq.read_table(quantized / "report.parquet").to_pylist()
    measured = {row["name"]: row["sqnr_db"] for row in report if row["sqnr_db"] is not None}
    shown = dict(re.fullmatch(r"(.*): ([\d.]+) dB, [24] bits", title).groups() for title in page.titles)
    assert {name: float(db) for name, db in shown.items()} == pytest.approx(measured, abs=0.006)
    worst = min(measured, key=measured.get)
    assert page.text[page.text.index("Tensors that lost most") + 1] == worst
    assert {"2 bits", "4 bits", "copied"} <= set(page.text) and page.drawings == 0
    before, after = (sum(row[name] for row in report) for name in ("bytes_in", "bytes_out"))
    assert f"{before / 1e6:.2f} MB to {after / 1e3:.0f} kB" in page.text

    program("report", quantized, "--html", tmp_path / "b.html", "--model", digits_dit)
    assert Page((tmp_path / "b.html").read_text()).drawings == 4


def test_a_comparison_is_a_page_as_well(program, quantized, digits_dit, tmp_path):
    program("compare", digits_dit, quantized, "--html", tmp_path / "c.html")
    page = Page((tmp_path / "c.html").read_text())
    assert page.drawings == 4 and len(page.titles) == 15 and "identical" in page.text


def test_only_pages_are_replaced_and_only_finished_folders_shown(fails, quantized, digits_dit, tmp_path):
    precious = tmp_path / "model.safetensors"
    precious.write_text("weights")
    message = fails("report", quantized, "--html", precious, expect=2)
    assert ".html" in message and precious.read_text() == "weights"
    assert "arrow_quant.json" in fails("report", digits_dit, "--html", tmp_path / "d.html")
    assert not (tmp_path / "d.html").exists()
    assert "--html" in fails("report", quantized, "--model", digits_dit, expect=2)
