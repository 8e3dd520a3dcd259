"The page of jem_nb demo in a headless browser: draw, click, read the numbers."
import re
import shutil
import time

import pytest

gradio = pytest.importorskip('gradio')
pytest.importorskip('selenium')
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from jem_nb.demo import build, known_model

PEN = '#canvas button[aria-label="Brush"]'
needs_browser = pytest.mark.skipif(not shutil.which('chromium'), reason='no chromium here')


@pytest.fixture(scope='module')
def page():
    "Where the page is."
    blocks = build(dict(digits=known_model('digits')))
    _, url, _ = blocks.launch(server_name='127.0.0.1', prevent_thread_lock=True, quiet=True,
                              inbrowser=False, share=False)
    yield url
    blocks.close()


def waited(browser, what, seconds=60): return WebDriverWait(browser, seconds).until(what)


def by_id(browser, name): return browser.find_element(By.ID, name)


@needs_browser
def test_draw_click_read(page, driver, tmp_path):
    browser = driver
    browser.get(page)
    canvas = waited(browser, lambda b: b.find_element(By.CSS_SELECTOR, '#canvas canvas'))
    waited(browser, lambda b: canvas.size['height'] > 100)
    browser.execute_script('arguments[0].scrollIntoView()', canvas)
    by_id(browser, 'read').click()
    waited(browser, lambda b: 'Draw something' in by_id(b, 'verdict').text)

    waited(browser, lambda b: b.find_element(By.CSS_SELECTOR, PEN)).click()
    time.sleep(1)
    pen = ActionChains(browser).move_to_element_with_offset(canvas, 0, -70).click_and_hold()
    for _ in range(14): pen = pen.move_by_offset(0, 10)
    pen.release().perform() # a stroke from top to bottom
    browser.save_screenshot(str(tmp_path / 'drawn.png'))
    by_id(browser, 'read').click()
    waited(browser, lambda b: 'E(x) =' in by_id(b, 'verdict').text)
    verdict = by_id(browser, 'verdict').text
    energy = float(re.search(r'E\(x\) = (-?[\d.]+)', verdict)[1])
    assert -10 < energy < 10 and 'known up to -1.96' in verdict
    waited(browser, lambda b: '%' in by_id(b, 'probs').text)

    by_id(browser, 'walk').click()
    shown = waited(browser, lambda b: b.find_elements(By.CSS_SELECTOR, '#pictures img'))
    assert len(shown) >= 6 # steps 0, 1, 2, 5, 10, 20
    browser.save_screenshot(str(tmp_path / 'walked.png'))


def test_its_functions_by_the_client(page):
    from gradio_client import Client
    client = Client(page, verbose=False)
    drawn = client.predict('digits', '3', 0, api_name='/draw')
    assert len(drawn) == 8
