"""Pages in Debian's Chromium, where it is installed. Nothing has a limit of time, which a busy machine may exceed."""

import os
import re
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = os.environ.get("BB_CHROMIUM") or shutil.which("chromium")
MISSING = "no chromium: apt-get install chromium, or set BB_CHROMIUM"
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason=MISSING)


@contextmanager
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        sandbox = [] if os.getuid() else ["--no-sandbox"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox, timeout=0)
        yield started
        started.close()


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip(MISSING)
    with chromium() as started:
        yield started


def new_page(browser, width=1200, theme="light"):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    context.set_default_timeout(0)
    return context.new_page()


@contextmanager
def watched(browser, file):
    """A file's page; at the end: no error, no warning, and not one request but for itself."""
    page = new_page(browser)
    said, asked, own = [], [], file.as_uri()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.route(re.compile("^(?!file:|data:)"), lambda route: route.abort())
    page.goto(own)
    yield page
    assert said == []
    assert [url for url in asked if url.partition("#")[0] != own and not url.startswith("data:image/jpeg;")] == []
    page.context.close()
