"The page without a server in a headless browser, opened from the disk."
import re
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip('onnx')
pytest.importorskip('selenium')
onnxruntime = pytest.importorskip('onnxruntime')
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import WebDriverWait

from jem_nb.data import load
from jem_nb.demo import known_model
from jem_nb.energy import energy_from_logits
from jem_nb.saved_model import load_model
from jem_nb.web_page import save_onnx, web_page

needs_browser = pytest.mark.skipif(not (shutil.which('chromium') and shutil.which('npm')),
                                   reason='no chromium or no npm here')


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    "A page of the digits' model, in a path with a space."
    return web_page(known_model('digits'), tmp_path_factory.mktemp('web') / 'a page')


@pytest.fixture(scope='module')
def browser(page):
    options = webdriver.ChromeOptions()
    for word in ('--headless=new', '--no-sandbox', '--window-size=1000,900', '--disable-gpu'):
        options.add_argument(word)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which('chromedriver')))
    driver.set_script_timeout(60)
    driver.get(page.as_uri())
    waited(driver, lambda b: 'Draw something' in text(b, 'verdict'))
    yield driver
    driver.quit()


def waited(browser, what, seconds=60): return WebDriverWait(browser, seconds).until(what)


def text(browser, name): return browser.find_element('id', name).text


def by_torch(model, x, label):
    "Logits, E(x), and the gradient of E(x) or of E(x,y)."
    x = x.clone().requires_grad_()
    logits = model.model.logits(x)
    energy = energy_from_logits(logits)
    of = energy if label is None else -logits[:, label]
    return logits[0].detach(), energy.item(), torch.autograd.grad(of.sum(), x)[0].flatten()


@needs_browser
@pytest.mark.parametrize('label', (None, 3))
def test_the_browser_computes_what_torch_does(browser, label):
    model, x = known_model('digits'), load('digits', 'test').unit()[:1]
    wanted = by_torch(model, x, label)
    logits, energy, grad = browser.execute_async_script('''
        const [x, label, done] = arguments;
        jem.run(Float32Array.from(x), label).then(
            r => done([Array.from(r.logits), r.energy, Array.from(r.grad)]));
    ''', x.flatten().tolist(), label)
    torch.testing.assert_close(torch.tensor(logits), wanted[0], rtol=1e-3, atol=1e-4)
    assert abs(energy - wanted[1]) < 1e-3
    torch.testing.assert_close(torch.tensor(grad), wanted[2], rtol=1e-3, atol=1e-4)


@needs_browser
def test_draw_read_and_walk(browser):
    pen = browser.find_element('id', 'pen')
    stroke = ActionChains(browser, duration=20).move_to_element_with_offset(pen, 0, -80)
    stroke = stroke.click_and_hold()
    for _ in range(8): stroke = stroke.move_by_offset(0, 20)
    stroke.release().perform() # from top to bottom
    waited(browser, lambda b: 'E(x) =' in text(b, 'verdict'))
    energy, limit = map(float, re.search(r'E\(x\) = (-?[\d.]+); known up to (-?[\d.]+)',
                                         text(browser, 'verdict')).groups())
    assert abs(limit + known_model('digits').threshold(.05)) < .006
    unknown = 'I do not know' in text(browser, 'verdict')
    assert unknown == (energy > limit)
    assert text(browser, 'bars').count('%') == 10

    browser.execute_script("document.getElementById('steps').value = 30")
    browser.find_element('id', 'walk').click()
    waited(browser, lambda b: text(b, 'moment').startswith('step 30,'))
    walked = float(text(browser, 'moment').split('=')[1])
    assert walked < energy + .1 # downhill, but for the noise
    browser.find_element('id', 'draw').click()
    waited(browser, lambda b: text(b, 'moment').startswith('step 30,'))
    browser.find_element('id', 'clear').click()
    waited(browser, lambda b: 'Draw something' in text(b, 'verdict'))
    assert not browser.get_log('browser')


@pytest.mark.parametrize('name', ('mnist_14', 'cifar10_16', 'digits_baseline_bn'))
def test_another_runtime_computes_what_torch_does(tmp_path, name):
    "Colour, strides that leave a rest, and batch norm."
    model = load_model(name)
    session = onnxruntime.InferenceSession(str(save_onnx(model, tmp_path / 'model.onnx')))
    a, k = model.about, len(model.classes)
    x = torch.randn(1, a['channels'], a['size'], a['size'],
                    generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    mask = np.full((1, k), -1e4, np.float32)
    mask[0, 5] = 0
    wanted = by_torch(model, x, 5)
    logits, energy, grad = session.run(None, dict(x=x.numpy(), mask=mask))
    torch.testing.assert_close(torch.tensor(logits[0]), wanted[0], rtol=1e-3, atol=1e-3)
    assert abs(energy[0] - wanted[1]) < 1e-2
    torch.testing.assert_close(torch.tensor(grad).flatten(), wanted[2], rtol=1e-2, atol=1e-4)
