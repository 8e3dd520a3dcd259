"The page without a server: what it refuses, and that nothing half-written is left."
import io
import subprocess
import tarfile

import pytest
import torch

from jem_nb import web_page as page
from jem_nb.data import load
from jem_nb.energy import EnergyClassifier
from jem_nb.saved_model import TrainedModel, load_model


@pytest.fixture(scope='module')
def digits(): return load_model('digits')


@pytest.fixture
def runtime(tmp_path):
    "What stands for an unpacked onnxruntime-web."
    for name in (page._SCRIPT, page._MODULE, page._WASM):
        (tmp_path / 'runtime' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'runtime' / name).write_bytes(b'"\\\n')
    return tmp_path / 'runtime'


def test_the_folder_is_whole(digits, runtime, tmp_path):
    made = page.web_page(digits, tmp_path / 'out', runtime)
    names = {f.name for f in made.parent.iterdir()}
    assert names == {'page.html', 'page.js', 'ort.js', 'runtime.js', 'model.js'}
    for name in names - {'page.html'}: assert f'src="{name}"' in made.read_text('utf-8')
    assert not list(tmp_path.glob('.page-*'))
    assert digits.model.model.training is False
    assert all(p.requires_grad == q.requires_grad for p, q in
               zip(digits.model.parameters(), load_model('digits').model.parameters()))


def test_no_npm(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(page.shutil, 'which', lambda name: None)
    with pytest.raises(RuntimeError, match='install Node.js.*runtime=FOLDER'):
        page.web_page(digits, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_npm_that_fails(tmp_path, monkeypatch):
    def fails(*words, **how):
        said = 'npm warn old\nnpm error code E\nnpm error no such host'
        raise subprocess.CalledProcessError(1, words, stderr=said)
    monkeypatch.setattr(page.shutil, 'which', lambda name: '/bin/npm')
    monkeypatch.setattr(page.subprocess, 'run', fails)
    with pytest.raises(RuntimeError, match=r'\(npm error no such host\).*--runtime FOLDER'):
        page.fetch_runtime(tmp_path / 'runtime')


def test_another_package(tmp_path, monkeypatch):
    "What npm fetched is compared with the checksum before anything of it is written."
    def other(*words, cwd, **how):
        with tarfile.open(f'{cwd}/other.tgz', 'w:gz') as packed:
            packed.addfile(tarfile.TarInfo('package/other'), io.BytesIO())
    monkeypatch.setattr(page.shutil, 'which', lambda name: '/bin/npm')
    monkeypatch.setattr(page.subprocess, 'run', other)
    with pytest.raises(RuntimeError, match='checksum'): page.fetch_runtime(tmp_path / 'runtime')
    assert not (tmp_path / 'runtime').exists()


def test_a_folder_that_is_no_runtime(digits, tmp_path):
    with pytest.raises(RuntimeError, match='it lacks dist/ort'):
        page.web_page(digits, tmp_path / 'out', tmp_path)
    assert not (tmp_path / 'out').exists()


def test_a_page_is_replaced_whole_and_nothing_else_is(digits, runtime, tmp_path, monkeypatch):
    made = page.web_page(digits, tmp_path / 'out', runtime, 'first')
    page.web_page(digits, tmp_path / 'out', runtime, 'second')
    assert '"second"' in (tmp_path / 'out/model.js').read_text('utf-8')

    def full(*words): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(page.shutil, 'copy', full)
        with pytest.raises(OSError, match='No space'): page.web_page(digits, made.parent, runtime)
    assert '"second"' in (tmp_path / 'out/model.js').read_text('utf-8')
    assert sorted(f.name for f in tmp_path.iterdir()) == ['out', 'runtime']

    (tmp_path / 'out/thesis.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='holds other files, such as thesis.txt'):
        page.web_page(digits, tmp_path / 'out', runtime)
    assert (tmp_path / 'out/thesis.txt').read_text() == 'mine'


@pytest.mark.parametrize('n, least', ((180, 1), (30, 4), (3, None), (0, None)))
def test_rates_that_the_known_images_can_promise(digits, n, least):
    scores = {name: v[:n] for name, v in digits.calibrate(load('digits', 'valid')).scores.items()}
    known = page._known(TrainedModel(digits.model, digits.about, None, scores if n else {}))
    assert known['least_rate'] == least
    if least: assert len(known['limits']) == 21 - least and len(known['energies']) == n


class Chooses(torch.nn.Module):
    "A network whose operations depend on its input."
    def forward(self, x): return x.flatten(1)[:, :3] * (2 if x.sum() > 0 else 3)


class Draws(torch.nn.Module):
    "A network that draws random numbers."
    def forward(self, x): return x.flatten(1)[:, :3] * torch.rand(3)


class Pools(torch.nn.Module):
    "A network whose gradient ONNX cannot hold."
    def forward(self, x): return torch.nn.functional.adaptive_max_pool2d(x, 2).flatten(1)


@pytest.mark.parametrize('net, why', ((Chooses(), 'cannot be written as a graph'),
                                      (Draws(), 'does it draw random numbers')))
def test_a_network_that_is_no_list_of_operations(net, why):
    with pytest.raises(ValueError, match=why): page.step_graph(net, (1, 4, 4), 3)


def test_an_operation_that_onnx_lacks(digits, tmp_path):
    about = digits.about | dict(classes=['a', 'b', 'c', 'd'], size=4)
    model = TrainedModel(EnergyClassifier(Pools()), about)
    with pytest.raises(ValueError, match='graph: ONNX has no adaptive_max_pool2d_backward'):
        page.save_onnx(model, tmp_path / 'model.onnx')
    assert not list(tmp_path.iterdir())


def test_the_command_line_says_what_is_missing(tmp_path, capsys):
    from jem_nb.terminal import main
    assert main(['page', 'digits', str(tmp_path / 'out'), '--runtime', str(tmp_path)]) == 2
    assert 'it lacks dist/ort' in capsys.readouterr().err
