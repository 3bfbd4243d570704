"""Reports as pages of HTML: one file each, without a script, and without a request to anywhere.

Jinja escapes what is filled in, and characters that are not printable are written as escapes, so that a name of
somebody else's is text and nothing else. The policy in each page allows its own style sheet, by its digest.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tuner import __version__
from tuner.report.content import VerdictReport
from tuner.report.overview import Overview
from tuner.report.starts import Waterfall
from tuner.text import counted, visible

_CODE = re.compile(r"`([^`]+)`")
LARGE = 1e4
"""Nats that are written with an exponent."""
CALLS_A_ROW = 8
"""Calls in one picture of a timeline; pictures stand beside each other where there is room."""


def verdict_page(report: VerdictReport, home: str = "") -> str:
    """The page of one stored verdict.

    Args:
        report: what it says.
        home: address of the page of all verdicts; empty if there is none.
    """
    return _filled("verdict.html", {"report": report, "home": home})


def overview_page(table: Overview, now: datetime, links: str = "", following: str = "") -> str:
    """The page of all stored verdicts.

    Args:
        table: what it says.
        now: when it is made, in UTC.
        links: address of the page of a verdict, with `KEY` in the place of its key; empty if there are none.
        following: address of the page with the verdicts behind these; empty if all are here.
    """
    return _filled(
        "overview.html",
        {"table": table, "now": now.isoformat(timespec="minutes"), "links": links, "following": following},
    )


def log_page(name: str, starts: Sequence[Waterfall], notes: Sequence[str]) -> str:
    """The page of the starts that a server's log records.

    Args:
        name: of the log.
        starts: in the order of the log.
        notes: sentences about the whole log.
    """
    return _filled("log.html", {"name": name, "starts": starts, "notes": notes})


def policy() -> str:
    """What a page may load: its own style sheet, and an empty icon, which keeps browsers from asking for one."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


def _filled(template: str, values: Mapping[str, object]) -> str:
    shared = {"style": Markup(_style()), "policy": policy(), "version": __version__}  # noqa: S704  our own file
    return _templates().get_template(template).render({**shared, **values})


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("tuner.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["counted"] = counted
    environment.filters["nats"] = _nats
    environment.filters["seconds"] = _seconds
    environment.filters["prose"] = _prose
    environment.filters["in_rows"] = _in_rows
    return environment


@cache
def _style() -> str:
    loader = PackageLoader("tuner.report")
    source, _, _ = loader.get_source(Environment(autoescape=True), "style.css")
    return source


def _printable(value: object) -> object:
    """Text of others without characters that steer a terminal or the direction of writing."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _prose(text: str) -> Markup:
    """A sentence, what stands between backquotes as code."""
    escaped = str(escape(visible(text)))
    return Markup(_CODE.sub(r"<code>\1</code>", escaped))  # noqa: S704  escaped in the line above


def _nats(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value < LARGE else f"{value:.2e}"


def _seconds(value: float) -> str:
    return f"{value:.1f} s"


def _in_rows(calls: Sequence[object]) -> list[Sequence[object]]:
    """The calls of a timeline in groups, one for each picture."""
    return [calls[begin : begin + CALLS_A_ROW] for begin in range(0, len(calls), CALLS_A_ROW)]
