"A headless browser for the pages."
import shutil

import pytest


@pytest.fixture(scope='module')
def driver():
    webdriver = pytest.importorskip('selenium.webdriver')
    options = webdriver.ChromeOptions()
    for word in ('--headless=new', '--no-sandbox', '--window-size=1400,1400', '--disable-gpu'):
        options.add_argument(word)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which('chromedriver')))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()
