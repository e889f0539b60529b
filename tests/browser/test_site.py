from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.conftest import opened, requested

pytestmark = pytest.mark.browser
PAGES = ("index.html", "reference.html", "policies/randomized.html", "metrics/events.html")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_as_a_file_and_asks_the_network_for_nothing(chromium: Chrome, site: Path, name: str) -> None:
    page = opened(chromium, site / name)
    assert page.find_element(By.TAG_NAME, "h1").is_displayed()
    urls = requested(page)
    assert (site / name).as_uri() in urls
    assert [url for url in urls if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
    sizes = page.execute_script("return [...document.images].map((image) => [image.complete, image.naturalWidth])")
    assert all(complete and width > 100 for complete, width in sizes)
    assert page.get_log("browser") == []


def test_a_line_of_110_letters_of_code_fits(chromium: Chrome, site: Path) -> None:
    page = opened(chromium, site / "index.html")
    letters = page.execute_script(
        """
        const code = document.querySelector("pre > code");
        const style = getComputedStyle(code);
        const one = code.appendChild(Object.assign(document.createElement("span"), {textContent: "x".repeat(100)}));
        const width = one.getBoundingClientRect().width / 100;
        one.remove();
        return (code.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)) / width;
        """
    )
    assert letters >= 110


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_wide_as_a_phone(chromium: Chrome, site: Path, name: str) -> None:
    page = opened(chromium, site / name, 375)
    assert page.execute_script("return innerWidth") == 375
    assert page.execute_script("return document.scrollingElement.scrollWidth") <= 375


def test_equations_are_rendered(chromium: Chrome, site: Path) -> None:
    page = opened(chromium, site / "definitions.html")
    sizes = page.execute_script(
        """
        return document.fonts.ready.then(() => [...document.querySelectorAll(".equation mfrac")].map((fraction) => {
            const [above, below] = [...fraction.children].map((part) => part.getBoundingClientRect());
            return [above.width, below.top - above.bottom];
        }));
        """
    )
    assert len(sizes) > 5
    assert all(width > 5 and distance >= 0 for width, distance in sizes)  # numerators stand above denominators
    assert page.execute_script("return document.fonts.check('16px \"STIX Two Math\"')")
    assert "\\frac" not in page.find_element(By.TAG_NAME, "body").text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_the_reader_wants(chromium: Chrome, site: Path, scheme: str) -> None:
    page = opened(chromium, site / "index.html", scheme=scheme)
    page.execute_script("localStorage.clear()")
    page.refresh()
    shown = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in shown.strip("rgb()").split(",")[:3]) < 300) == (scheme == "dark")


def test_the_search_finds_the_adaptive_policy(chromium: Chrome, site: Path) -> None:
    page = opened(chromium, site / "index.html")
    field = page.find_element(By.CSS_SELECTOR, "input.md-search__input")
    field.click()
    field.send_keys("adaptive")
    found = WebDriverWait(page, 20).until(lambda _: page.find_elements(By.CSS_SELECTOR, ".md-search-result__link"))
    leads = [link.get_attribute("href").partition("?")[0] for link in found]
    assert (site / "policies" / "adaptive.html").as_uri() in leads
    assert [lead for lead in leads if "/source/" in lead] == []
