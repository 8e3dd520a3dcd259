"The page without a server in a headless browser, opened from the disk."
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip('onnx')
pytest.importorskip('selenium')
onnxruntime = pytest.importorskip('onnxruntime')
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import WebDriverWait

from jem_nb.data import load
from jem_nb.demo import known_model, strokes
from jem_nb.energy import EnergyClassifier, energy_from_logits
from jem_nb.saved_model import TrainedModel, load_model
from jem_nb.sgld import sgld
from jem_nb.web_page import fetch_runtime, save_onnx, web_page
from jem_nb.your_network import network

HERE = all(map(shutil.which, ('chromium', 'chromedriver', 'npm')))
needs_browser = pytest.mark.skipif(not HERE, reason='no chromium, chromedriver or npm here')


@pytest.fixture(scope='module')
def runtime(tmp_path_factory): return fetch_runtime(tmp_path_factory.mktemp('runtime'))


@pytest.fixture
def browser(driver, runtime, tmp_path):
    "Opens the page of a model, in a path with a space."
    def opened(model):
        driver.get(web_page(model, tmp_path / 'a page', runtime).as_uri())
        waited(driver, lambda b: re.match('Draw something|Choose a file', text(b, 'verdict')))
        return driver
    return opened


def waited(browser, what, seconds=60): return WebDriverWait(browser, seconds).until(what)


def text(browser, name): return browser.find_element('id', name).text


def called(browser, code, *words):
    "What an asynchronous expression of the page gives; `given` is what it is called with."
    return browser.execute_async_script(
        f'const given = Array.from(arguments), done = given.pop(); ({code}).then(done)', *words)


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
    logits, energy, grad = called(browser(model), '''
        jem.run(Float32Array.from(given[0]), given[1]).then(
            r => [Array.from(r.logits), r.energy, Array.from(r.grad)])''',
        x.flatten().tolist(), label)
    torch.testing.assert_close(torch.tensor(logits), wanted[0], rtol=1e-3, atol=1e-4)
    assert abs(energy - wanted[1]) < 1e-3
    torch.testing.assert_close(torch.tensor(grad), wanted[2], rtol=1e-3, atol=1e-4)


@needs_browser
@pytest.mark.parametrize('label', (None, 3))
def test_steps_without_noise_are_those_of_sgld(browser, label):
    model, x = known_model('digits'), load('digits', 'test').unit()[:1]
    c, y = model.config, None if label is None else torch.tensor([label])
    wanted = sgld(model.model, x, 5, c.step_size, 0., y, None, c.grad_clamp, c.state_clamp)
    found = called(browser(model), '''
        (MODEL.noise_scale = 0, jem.chain(Float32Array.from(given[0]), 5, given[1])).then(
            states => Array.from(states[5]))''', x.flatten().tolist(), label)
    assert (wanted - x).abs().max() > .01
    torch.testing.assert_close(torch.tensor(found), wanted.flatten(), rtol=1e-3, atol=1e-4)


def draw(browser, dx=0):
    "A stroke from top to bottom, leaning by dx."
    pen = browser.find_element('id', 'pen')
    stroke = ActionChains(browser, duration=20).move_to_element_with_offset(pen, 0, -80)
    stroke = stroke.click_and_hold()
    for _ in range(8): stroke = stroke.move_by_offset(dx, 20)
    stroke.release().perform()
    waited(browser, lambda b: 'E(x) =' in text(b, 'verdict'))


def percentages(browser):
    "{class: what the page says}."
    lines = text(browser, 'bars').splitlines()
    return {lines[i]: float(lines[i + 1].split()[0]) for i in range(0, len(lines), 2)}


@needs_browser
@pytest.mark.parametrize('name', ('digits', 'mnist_14'))
def test_a_drawing_is_read_as_python_reads_it(browser, name):
    model = known_model(name)
    page = browser(model)
    draw(page, -8)
    pen = page.execute_script('''
        const rgba = document.getElementById('pen').getContext('2d').getImageData(0, 0, 280, 280);
        return Array.from({length: 280 * 280}, (_, i) => rgba.data[4 * i + 3]);''')
    mask = np.array(pen, np.uint8).reshape(280, 280)
    prepared = strokes(mask, 1. if name == 'digits' else 20 / 28)
    found = np.array(page.execute_script('return Array.from(jem.strokes())')).reshape(112, 112)
    assert np.abs(found - prepared.astype(float)).mean() < .5 # of 255
    p = model.predict(prepared, None)
    for label, percent in percentages(page).items():
        assert abs(percent - 100 * p.probs[model.classes.index(label)]) < 1, label
    energy = float(re.search(r'E\(x\) = (-?[\d.]+)', text(page, 'verdict'))[1])
    assert abs(energy - p.energy) < .03


@needs_browser
@pytest.mark.parametrize('name, kind', [
    ('cifar10_16', 'colour'), ('mnist_14', 'colour'), ('cifar10_16', 'grey'), ('digits', 'wide')])
def test_a_file_is_read_as_python_reads_it(browser, tmp_path, name, kind):
    g = np.random.default_rng(0)
    small = g.integers(0, 256, (6, 9, 3), np.uint8)
    picture = Image.fromarray(small).resize((300, 40 if kind == 'wide' else 200))
    if kind == 'grey': picture = picture.convert('L')
    picture.save(tmp_path / 'picture.png')
    model = load_model(name)
    page, p = browser(model), model.predict(tmp_path / 'picture.png', None)
    page.find_element('id', 'file').send_keys(str(tmp_path / 'picture.png'))
    waited(page, lambda b: 'E(x) =' in text(b, 'verdict'))
    for label, percent in percentages(page).items():
        assert abs(percent - 100 * p.probs[model.classes.index(label)]) < 1, label
    assert abs(float(text(page, 'verdict').split('E(x) =')[1]) - p.energy) < .03


@needs_browser
def test_draw_read_and_walk(browser):
    model = known_model('digits')
    page = browser(model)
    draw(page)
    energy, limit = map(float, re.search(r'E\(x\) = (-?[\d.]+); known up to (-?[\d.]+)',
                                         text(page, 'verdict')).groups())
    assert abs(limit + model.threshold(.05)) < .006
    assert ('I do not know' in text(page, 'verdict')) == (energy > limit)
    assert len(percentages(page)) == 10

    def set_steps(n): page.execute_script(f"document.getElementById('steps').value = {n}")
    set_steps(30)
    page.find_element('id', 'walk').click()
    waited(page, lambda b: text(b, 'moment').startswith('step 30,'))
    set_steps(7)
    page.find_element('id', 'draw').click()
    waited(page, lambda b: text(b, 'moment').startswith('step 7,'))
    page.execute_script('for (const k of [1, 2, 3]) document.getElementById("reject").oninput()')
    waited(page, lambda b: len(percentages(b)) == 10)
    page.find_element('id', 'clear').click()
    waited(page, lambda b: 'Draw something' in text(b, 'verdict'))
    assert not text(page, 'bars') and not page.get_log('browser')


@needs_browser
def test_a_file_and_the_pen_do_not_mix(browser, tmp_path):
    page = browser(known_model('digits'))
    draw(page, -8)
    before = text(page, 'verdict')
    (tmp_path / 'words.png').write_text('no image')
    page.find_element('id', 'file').send_keys(str(tmp_path / 'words.png'))
    waited(page, lambda b: 'no image that this browser reads' in text(b, 'verdict'))
    assert not text(page, 'bars')
    Image.fromarray(load('digits', 'test').x[0, 0].numpy()).save(tmp_path / 'seven.png')
    for _ in range(2): # the same file twice
        page.find_element('id', 'file').send_keys(str(tmp_path / 'seven.png'))
        waited(page, lambda b: text(b, 'verdict').startswith('7'))
        page.find_element('id', 'clear').click()
        waited(page, lambda b: 'Draw something' in text(b, 'verdict'))
    page.find_element('id', 'file').send_keys(str(tmp_path / 'seven.png'))
    waited(page, lambda b: text(b, 'verdict').startswith('7'))
    draw(page, -8)
    waited(page, lambda b: text(b, 'verdict') == before)


def made(size, channels, classes, n_known):
    "An untrained model of that kind, with scores of a few known images."
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(channels * size ** 2, len(classes)))
    about = dict(classes=classes, channels=channels, size=size)
    about |= dict(temperature=1., arch={}, config=load_model('digits').about['config'])
    scores = dict(log_p_x=torch.randn(n_known).double()) if n_known else {}
    return TrainedModel(EnergyClassifier(net), about, scores=scores)


@needs_browser
@pytest.mark.parametrize('size', (20, 32, 150))
def test_any_size_and_few_known_images(browser, size):
    "30 images can promise no rate below 4 %; names are text, whatever is in them."
    page = browser(made(size, 1, ['</script><b>x', '<img src=x onerror=alert(1)>'], 30))
    draw(page)
    assert 'NaN' not in text(page, 'verdict') + text(page, 'bars')
    assert set(percentages(page)) == {'</script><b>x', '<img src=x onerror=alert(1)>'}
    assert page.find_element('id', 'reject').get_attribute('min') == '4'
    assert not page.get_log('browser')


@needs_browser
def test_colour_without_known_images(browser):
    page = browser(made(16, 3, ['a', 'b'], 0))
    said = text(page, 'about')
    assert 'choose a file' in said and 'never says' in said and 'does not draw' in said
    ActionChains(page).move_to_element(page.find_element('id', 'pen')).click().perform()
    assert text(page, 'verdict') == 'Choose a file.' and not page.get_log('browser')


def in_another_runtime(model, file, label):
    "Logits, energy, gradient of one image by onnxruntime, and by torch."
    session = onnxruntime.InferenceSession(str(save_onnx(model, file)))
    a, k = model.about, len(model.classes)
    x = torch.randn(1, a['channels'], a['size'], a['size'],
                    generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    mask = np.full((1, k), -1e4, np.float32)
    mask[0, label] = 0
    return session.run(None, dict(x=x.numpy(), mask=mask)), by_torch(model, x, label)


def assert_same(found, wanted):
    (logits, energy, grad), (by_logits, by_energy, by_grad) = found, wanted
    torch.testing.assert_close(torch.tensor(logits[0]), by_logits, rtol=1e-3, atol=1e-3)
    assert abs(energy[0] - by_energy) < 1e-2
    room = 1e-4 + 1e-3 * by_grad.abs().max().item()
    torch.testing.assert_close(torch.tensor(grad).flatten(), by_grad, rtol=1e-2, atol=room)


@pytest.mark.parametrize('name', ('mnist_14', 'cifar10_16', 'digits_baseline_bn'))
def test_another_runtime_computes_what_torch_does(tmp_path, name):
    "Colour, strides that leave a rest, and batch norm."
    assert_same(*in_another_runtime(load_model(name), tmp_path / 'model.onnx', 5))


@pytest.mark.parametrize('name', (
    'timm:resnet18', 'timm:convnext_atto', 'timm:mobilenetv3_small_050',
    'timm:vit_tiny_patch16_224', 'torchvision:densenet121'))
def test_other_peoples_networks(tmp_path, name):
    pytest.importorskip(name.split(':')[0])
    torch.manual_seed(0)
    how = dict(img_size=32, patch_size=8) if 'vit' in name else {}
    own = network(name, 3, **how)
    model = made(32, 3, ['a', 'b', 'c'], 0)
    model.model.model = own.eval()
    assert_same(*in_another_runtime(model, tmp_path / 'model.onnx', 1))

