"""The pages of the service: those of `tuner report`, with links between them."""

from pathlib import Path

import pytest
from report_samples import HOSTILE, entry_of, safe_report, store_with, unsafe_report
from service_bench import Bench, Setting, bench

from tuner.service import pages


@pytest.fixture
def service(tmp_path: Path) -> Bench:
    """A service that knows two verdicts, one of a hostile name."""
    entries = entry_of(unsafe_report()), entry_of(safe_report(), name=HOSTILE, vllm="0.18.1")
    return bench(Setting(store_with(tmp_path, *entries)))


def test_the_table_links_to_each_verdict(service: Bench) -> None:
    """Each link leads to a page, and each page leads back."""
    table = service.client.get("/")
    assert table.headers["content-type"] == "text/html; charset=utf-8"
    keys = [row["key"] for row in service.get("/v1/verdicts")["verdicts"]]
    for key in keys:
        assert f'href="/v1/verdicts/{key}.html"' in table.text
        page = service.client.get(f"/v1/verdicts/{key}.html")
        assert page.status_code == 200
        assert '<a href="/">' in page.text
    assert len(keys) == 2


def test_a_browser_is_told_to_load_nothing_else(service: Bench) -> None:
    """The policy of the page is in the header, too, and nobody may frame it."""
    headers = service.client.get("/").headers
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert headers["content-security-policy"].endswith("frame-ancestors 'none'")
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("path", "status"), [("/v1/verdicts/0000.html", 404), ("/v1/verdicts/x.html", 422)])
def test_a_page_that_is_not_there_is_refused_as_json(path: str, status: int, service: Bench) -> None:
    """A client that gets a failure gets the same document as everywhere."""
    assert service.get(path, status)["error"]["message"]


def test_a_large_store_is_shown_in_pages(service: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link at the end leads to the verdicts behind, and the last page has none."""
    monkeypatch.setattr(pages, "MOST_ENTRIES", 1)
    first = service.client.get("/").text
    address = first.partition('href="/?after=')[2].partition('"')[0]
    second = service.client.get(f"/?after={address}").text
    assert "1 verdict," in first
    assert "1 verdict," in second
    assert "/?after=" not in second
    assert {"0.18.1" in first, "0.18.1" in second} == {True, False}
