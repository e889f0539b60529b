from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from tests.browser.conftest import FAILED, RUNS, opened, requested, screen

pytestmark = pytest.mark.browser
SHOWN = 50  # at once


@pytest.fixture
def page(chromium: Chrome, report: Path) -> Iterator[Chrome]:
    """The report, freshly opened on a desktop's screen; at the end of the test its console must be empty."""
    yield opened(chromium, report)
    assert chromium.get_log("browser") == []


def shown(page: Chrome, column: str) -> list[str]:
    """The cells of a column in the rows of the leaderboard that are shown."""
    return page.execute_script(
        """
        const table = document.querySelector("#leaderboard table");
        const index = [...table.tHead.rows[0].cells].findIndex((cell) => cell.innerText.trim() === arguments[0]);
        return [...table.tBodies[0].rows].filter((row) => row.offsetHeight).map((row) => row.cells[index].innerText);
        """,
        column,
    )


def heading(page: Chrome, column: str) -> WebElement:
    return page.find_element(By.XPATH, f"//section[@id='leaderboard']//th[normalize-space(.)='{column}']")


def count(page: Chrome) -> str:
    return page.find_element(By.ID, "count").text


def click(page: Chrome, element: WebElement) -> None:
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)  # not below the bar of sections
    element.click()


def test_it_asks_the_network_for_nothing_and_has_its_figures(page: Chrome, report: Path) -> None:
    assert page.title == "demo: report"
    urls = requested(page)
    assert report.as_uri() in urls
    assert [url for url in urls if url != report.as_uri() and not url.startswith("data:")] == []
    sizes = page.execute_script("return [...document.images].map((image) => [image.complete, image.naturalWidth])")
    assert sizes
    assert all(complete and width > 500 for complete, width in sizes)


def test_a_figure_is_enlarged_and_made_small_by_keyboard(page: Chrome) -> None:
    box = page.find_element(By.CSS_SELECTOR, ".picture input")
    image = page.find_element(By.CSS_SELECTOR, ".picture img")
    screen(page, 375)
    small = image.size["width"]
    assert small < 375
    box.send_keys(Keys.SPACE)
    assert image.size["width"] > 1.5 * small
    assert page.execute_script("return document.scrollingElement.scrollWidth <= innerWidth")
    box.send_keys(Keys.SPACE)
    assert image.size["width"] == small


def test_the_best_runs_come_first_and_all_are_shown_if_asked_for(page: Chrome) -> None:
    assert count(page) == f"{SHOWN} of {RUNS} runs shown"
    # Failed runs have no rank, and come last.
    assert shown(page, "valid PPL") == [f"{1 + index / 10:#.5g}" for index in range(FAILED, FAILED + SHOWN)]
    assert heading(page, "rank").get_attribute("aria-sort") == "ascending"
    button = page.find_element(By.ID, "more")
    assert button.text == f"Show all {RUNS}"
    click(page, button)
    assert len(shown(page, "id")) == RUNS
    assert count(page) == f"{RUNS} of {RUNS} runs shown"
    assert not button.is_displayed()


def test_a_click_sorts_by_the_numbers_of_a_column_and_another_turns_it_round(page: Chrome) -> None:
    click(page, page.find_element(By.ID, "more"))
    column = heading(page, "lr")
    for order in ("ascending", "descending"):
        click(page, column.find_element(By.TAG_NAME, "button"))
        values = [float(text) for text in shown(page, "lr")]
        assert values == sorted(values, reverse=order == "descending")  # as text, 0.001 would come before 1e-05
        assert column.get_attribute("aria-sort") == order
    assert heading(page, "rank").get_attribute("aria-sort") is None
    click(page, heading(page, "policy").find_element(By.TAG_NAME, "button"))
    assert shown(page, "policy") == ["fixed K=2"] * (RUNS // 2) + ["fixed K=10"] * (RUNS // 2)


def test_every_column_sorts_by_keyboard(page: Chrome) -> None:
    for column in ("rank", "policy", "lr", "init", "valid PPL", "test PPL", "K", "time", "state", "id"):
        heading(page, column).find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        expected = "descending" if column == "rank" else "ascending"  # it is sorted by rank at first
        assert heading(page, column).get_attribute("aria-sort") == expected
        assert len(shown(page, column)) == SHOWN


def test_words_filter(page: Chrome) -> None:
    field = page.find_element(By.NAME, "text")
    field.send_keys("FAILED k=2")
    assert shown(page, "id") == ["000000000000", "000000000002"]
    assert count(page) == f"2 of {RUNS} runs shown"
    field.send_keys(" nowhere")
    assert shown(page, "id") == []
    assert count(page) == f"0 of {RUNS} runs shown"


def test_choices_filter_and_are_cleared(page: Chrome) -> None:
    Select(page.find_element(By.NAME, "policy")).select_by_visible_text("fixed K=10")
    assert set(shown(page, "policy")) == {"fixed K=10"}
    assert count(page) == f"{RUNS // 2} of {RUNS} runs shown"
    Select(page.find_element(By.NAME, "state")).select_by_visible_text("finished")
    assert count(page) == f"{RUNS // 2 - 1} of {RUNS} runs shown"
    click(page, page.find_element(By.CSS_SELECTOR, "#filters button[type=reset]"))
    page.execute_async_script("setTimeout(arguments[0], 50)")
    assert count(page) == f"{SHOWN} of {RUNS} runs shown"
    Select(page.find_element(By.NAME, "state")).select_by_visible_text("finished")
    assert count(page) == f"{SHOWN} of {RUNS} runs shown, {RUNS - FAILED} match"


def test_the_page_is_as_wide_as_the_screen(page: Chrome) -> None:
    page.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for width in (320, 375, 800, 1280):
        screen(page, width)
        assert page.execute_script("return innerWidth") == width
        assert page.execute_script("return document.scrollingElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(page: Chrome, scheme: str) -> None:
    """A contrast of 4.5 at least, as WCAG asks for text."""
    screen(page, 1280, scheme)
    colors: dict[str, str] = page.execute_script(
        """
        const style = getComputedStyle(document.documentElement);
        const names = ["page", "raised", "text", "quiet", "link", "good", "note", "bad"];
        return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
        """
    )
    background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == f"rgb({', '.join(str(part) for part in bytes.fromhex(colors['page'][1:]))})"
    for name in ("text", "quiet", "link", "good", "note", "bad"):
        for behind in ("page", "raised"):
            assert contrast(colors[name], colors[behind]) >= 4.5, (name, behind)


def contrast(first: str, second: str) -> float:
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [part / 255 for part in bytes.fromhex(color[1:])]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_print_has_all_runs_and_no_filters(page: Chrome) -> None:
    assert not page.execute_script("return document.querySelector('#failures pre').checkVisibility()")
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert len(shown(page, "id")) == RUNS
    assert not page.find_element(By.ID, "filters").is_displayed()
    assert page.execute_script("return document.querySelector('#failures pre').checkVisibility()")
    page.execute_script("dispatchEvent(new Event('afterprint'))")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(shown(page, "id")) == SHOWN


def test_without_scripts_the_leaderboard_stands(page: Chrome, report: Path) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.get(report.as_uri())
    rows = page.find_elements(By.CSS_SELECTOR, "#leaderboard tbody tr")
    try:
        assert len(rows) == RUNS
        assert rows[-1].is_displayed()
        assert not page.find_element(By.ID, "filters").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
