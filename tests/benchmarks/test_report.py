"""The report page: built from results, alone in one file, and driven in a real headless Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import browser, missing, show
from hvcodec_benchmarks import anchors, report, wipe
from hvcodec_benchmarks.codecs import Codec, Unavailable
from hvcodec_benchmarks.pictures import Sample
from hvcodec_benchmarks.progress import Reporter

needs_browser = pytest.mark.skipif(missing() is not None, reason=f"{missing()}")
ABSENT = Unavailable("jxl-e7", "JPEG XL", "the plugin is </script> missing")


@pytest.fixture(scope="module")
def page(results: Path, samples: list[Sample], doubles: list[Codec], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the doubles' results."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wipe.paths, "cache_dir", lambda: folder)
        return report.write_report(results, samples, folder / "report.html", doubles, [ABSENT], Reporter())


def data_of(page: Path) -> dict[str, Any]:
    """The data inside a page, as its script reads it."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    data = json.loads(found.group(1))
    assert isinstance(data, dict)
    return data


def test_the_page_is_alone(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    sources = re.findall(r'(?:src|href)\s*=\s*["\']([^"\']+)', text.split('id="data"')[0])
    assert all(source.startswith(("#", "data:")) for source in sources)
    assert not re.search(r"\b(fetch|import|XMLHttpRequest|WebSocket)\s*\(", text)


def test_the_page_holds_what_was_measured(page: Path, samples: list[Sample]) -> None:
    data = data_of(page)
    names = {curve["name"] for curve in data["curves"]}
    assert names == {"hvcodec-psnr-e1", "hvcodec-perceptual-e1", "webp-m6"}
    assert data["bd"]["psnr_db"]["webp-m6"]["webp-m6"] == 0
    assert data["unavailable"] == [{"title": ABSENT.title, "reason": ABSENT.reason}]
    assert [picture["name"] for picture in data["wipe"]["pictures"]] == [sample.name for sample in samples]
    webp = next(one for one in data["wipe"]["pictures"][0]["shown"] if one["codec"] == "webp-m6")
    assert webp["native"]
    assert webp["src"].startswith("data:image/webp;base64,")


def test_anchors_stand_beside_the_pictures_that_they_are_of(
    results: Path, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchors, "KODAK", [sample.name for sample in samples])
    data = report.page_data(results)
    assert {"hvcodec-psnr-e1", "published/vtm-18.0"} <= {curve["name"] for curve in data["curves"]}
    assert data["reference"] == "published/vtm-18.0"


def test_pictures_are_compared_at_about_equal_bytes(page: Path) -> None:
    for picture in data_of(page)["wipe"]["pictures"]:
        for target in wipe.TARGETS_BPP:
            shown = [one for one in picture["shown"] if one["target_bpp"] == target]
            assert len(shown) == 3
            for one in shown:
                assert one["bpp"] == pytest.approx(8 * one["n_bytes"] / 176**2, abs=1e-3)


def test_large_pictures_become_crops() -> None:
    assert wipe._is_moderate(768, 512) and not wipe._is_moderate(6000, 4000)
    assert not wipe._is_moderate(20_000, 20)  # more than a browser's WebP can hold
    assert wipe._crop_box(6000, 4000) == (2520, 1680, 3480, 2320)
    assert wipe._crop_box(500, 4000) == (0, 1520, 500, 2480)


def test_a_page_without_results_can_be_made(tmp_path: Path) -> None:
    data = {**report.page_data(tmp_path / "nothing"), "wipe": None}
    assert "/*DATA*/" not in report.render(data)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for all tests: starting it is what takes time."""
    with browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def driver(chromium: Any, page: Path) -> Any:
    """The browser with the page freshly opened."""
    show(chromium, page)
    assert ready(chromium)
    return chromium


def ready(driver: Any) -> bool:
    """Whether the script ran to its end."""
    return bool(driver.execute_script("return document.documentElement.dataset.ready === 'true'"))


def complaints(driver: Any) -> list[dict[str, Any]]:
    """What the console holds of warnings and errors."""
    return [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def drawn(driver: Any) -> list[str]:
    """Names of the curves in the plot."""
    script = "return [...document.querySelectorAll('#rd-plot g[data-name]')].map((g) => g.dataset.name)"
    return list(driver.execute_script(script))


@needs_browser
def test_toggles_metric_and_reference(driver: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    assert "webp-m6" in drawn(driver)
    driver.find_element(By.CSS_SELECTOR, "#legend input[value='webp-m6']").click()
    assert "webp-m6" not in drawn(driver)
    driver.find_element(By.CSS_SELECTOR, "#legend input[value='webp-m6']").click()
    assert "webp-m6" in drawn(driver)

    title = "return document.querySelector('#rd-plot svg').getAttribute('aria-label')"
    driver.find_element(By.XPATH, "//*[@id='metric']//span[text()='SSIMULACRA2']").click()
    assert "SSIMULACRA2" in driver.execute_script(title)
    assert "published/vtm-18.0" not in drawn(driver)  # published without that metric

    Select(driver.find_element(By.ID, "reference")).select_by_value("webp-m6")
    cell = driver.find_element(By.XPATH, "//*[@id='legend']//input[@value='webp-m6']/ancestor::tr/td[2]")
    assert cell.text == "reference"
    assert complaints(driver) == []


@needs_browser
def test_the_plot_reads_out_under_pointer_and_keys(driver: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    point = driver.find_element(By.CSS_SELECTOR, "#rd-plot g[data-name='hvcodec-psnr-e1'] circle")
    ActionChains(driver).move_to_element(point).perform()
    tooltip = driver.find_element(By.CSS_SELECTOR, "#rd-plot .tooltip")
    assert "visible" in tooltip.get_attribute("class")
    assert "bpp" in tooltip.text
    plot = driver.find_element(By.CSS_SELECTOR, "#rd-plot svg")
    driver.execute_script("arguments[0].focus()", plot)
    ActionChains(driver).send_keys(Keys.ARROW_RIGHT).send_keys(Keys.ARROW_DOWN).perform()
    assert "bpp" in tooltip.text
    assert complaints(driver) == []


@needs_browser
def test_the_divider_follows_pointer_and_keys(driver: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    stage = driver.find_element(By.ID, "wipe-stage")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", stage)
    assert int(stage.get_attribute("aria-valuenow")) == 50
    divider = driver.find_element(By.CSS_SELECTOR, ".wipe-divider")
    quarter = round(stage.size["width"] / 4)
    ActionChains(driver).drag_and_drop_by_offset(divider, quarter, 0).perform()
    assert int(stage.get_attribute("aria-valuenow")) == pytest.approx(75, abs=1)
    clip = driver.find_element(By.CSS_SELECTOR, ".wipe-stage .wipe-layer:nth-child(2)").value_of_css_property(
        "clip-path"
    )
    assert re.match(r"inset\(0p?x? 2[45](\.\d+)?%", clip)

    driver.execute_script("arguments[0].focus()", stage)
    ActionChains(driver).send_keys(Keys.ARROW_LEFT).perform()
    assert int(stage.get_attribute("aria-valuenow")) == pytest.approx(73, abs=1)
    ActionChains(driver).send_keys("+").send_keys("+").perform()
    image = driver.find_element(By.CSS_SELECTOR, ".wipe-stage img")
    assert "scale(2)" in image.get_attribute("style")
    ActionChains(driver).send_keys("0").send_keys(Keys.PAGE_DOWN).perform()
    assert "scale(1)" in image.get_attribute("style")
    buttons = driver.find_elements(By.CSS_SELECTOR, ".strip button")
    assert [button.get_attribute("aria-pressed") for button in buttons] == ["false", "true"]
    for shown in driver.find_elements(By.CSS_SELECTOR, ".wipe-stage img"):
        assert int(shown.get_property("naturalWidth")) == 176
    assert complaints(driver) == []


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_all_of_it(chromium: Any, page: Path, dark: bool) -> None:
    show(chromium, page, (390, 844), dark)
    assert ready(chromium)
    assert chromium.execute_script("return document.documentElement.scrollWidth") <= 390
    assert chromium.execute_script("return document.querySelectorAll('.plot svg').length") >= 5
    paper = chromium.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", paper)[:3])) / 3
    assert (brightness < 60) if dark else (brightness > 200)
    assert complaints(chromium) == []


@needs_browser
def test_sections_without_data_say_so(chromium: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty.html"
    data = {**report.page_data(tmp_path / "nothing"), "wipe": None}
    empty.write_text(report.render(data), encoding="utf-8")
    show(chromium, empty)
    assert ready(chromium)
    assert chromium.execute_script("return document.querySelectorAll('.empty').length") == 5
    assert complaints(chromium) == []
