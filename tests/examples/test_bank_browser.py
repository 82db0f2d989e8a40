"""The bank as a person meets it: real pages in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from flask import Flask
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from examples.bank.demo.server import serving
from examples.bank.tables import Customers
from tests.conftest import or_skip
from tests.examples.conftest import PAID, Change
from tests.servers.programs import required

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1100,800",
)
PNG = b"\x89PNG\r\n\x1a\n"
PATIENCE = 30
"""Seconds to wait for a page."""


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Run a headless Chromium with an empty profile, whose requests stay on this machine."""
    options = ChromeOptions()
    options.binary_location = required("chromium")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = Chrome(options, Service(required("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    """Give a browser."""
    with or_skip(chromium(tmp_path / "profile")) as driver:
        yield cast("Chrome", driver)


@pytest.fixture
def address(bank: Flask) -> Iterator[str]:
    """Serve the bank."""
    with serving(bank) as url:
        yield url


def send(browser: Chrome, payer: str, payee: str, amount: str) -> str:
    """Fill in the form, click on Send, and return what the bank says."""
    for field, owner in (("payer", payer), ("payee", payee)):
        choice = Select(browser.find_element(By.NAME, field))
        choice.select_by_visible_text(owner)
    browser.find_element(By.NAME, "amount").send_keys(amount)
    browser.find_element(By.NAME, "memo").send_keys("Tickets")
    browser.find_element(By.XPATH, "//button[text()='Send']").click()
    flash = (By.CSS_SELECTOR, ".flash")
    found = WebDriverWait(browser, PATIENCE).until(expected.presence_of_element_located(flash))
    return found.text


@pytest.mark.usefixtures("customers")
def test_pages_render(browser: Chrome, address: str, tmp_path: Path) -> None:
    """Each page is styled, and logs no error."""
    for name, path in (("accounts", "/"), ("account", "/accounts/1"), ("audit", "/audit")):
        browser.get(address + path)
        picture = tmp_path / f"{name}.png"
        assert browser.save_screenshot(str(picture))

        content = picture.read_bytes()
        assert content.startswith(PNG)
        # An empty page of this size is a PNG of about 4 kB.
        assert len(content) > 20_000
        card = browser.find_element(By.CSS_SELECTOR, ".card")
        assert card.value_of_css_property("background-color") == "rgba(255, 255, 255, 1)"
        assert browser.get_log("browser") == []


@pytest.mark.usefixtures("customers")
def test_pages_fit_a_phone(browser: Chrome, address: str) -> None:
    """Nothing has to be scrolled sideways on a narrow screen."""
    browser.set_window_size(500, 900)
    for path in ("/", "/accounts/1", "/audit", "/nowhere"):
        browser.get(address + path)
        script = "return document.documentElement.scrollWidth - window.innerWidth"
        assert browser.execute_script(script) <= 0


@pytest.mark.rule("T15", "T16")
def test_a_transfer_works_by_clicking(
    browser: Chrome, address: str, customers: Customers, change: Change
) -> None:
    """What the page says has happened is in the database; what it refuses is not."""
    ada = f"Ada Lovelace ({customers.ada:06})"
    grace = f"Grace Hopper ({customers.grace:06})"
    browser.get(address)

    assert send(browser, ada, grace, "25.00") == "25.00 sent to Grace Hopper."
    assert browser.current_url == f"{address}/accounts/{customers.ada}"
    assert browser.find_element(By.CSS_SELECTOR, ".balance").text == "€ 2,475.00"
    assert change() == PAID

    browser.find_element(By.LINK_TEXT, "Send money").click()
    assert "not enough to pay 9,000.00" in send(browser, ada, grace, "9000")
    assert browser.find_element(By.NAME, "memo").get_attribute("value") == "Tickets"
    assert change() == PAID._replace(audit=2)
