"The page without a server: what it refuses, and that nothing half-written is left."
import io
import subprocess
import tarfile

import pytest
import torch

from jem_nb import web_page as page
from jem_nb.saved_model import load_model


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
        raise subprocess.CalledProcessError(1, words, stderr='npm error no such host\nmore')
    monkeypatch.setattr(page.shutil, 'which', lambda name: '/bin/npm')
    monkeypatch.setattr(page.subprocess, 'run', fails)
    with pytest.raises(RuntimeError, match='npm error no such host$'):
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


class Chooses(torch.nn.Module):
    "A network whose operations depend on its input."
    def forward(self, x): return x.flatten(1)[:, :3] * (2 if x.sum() > 0 else 3)


def test_a_network_that_is_no_list_of_operations():
    with pytest.raises(ValueError, match='cannot be written as a graph'):
        page.step_graph(Chooses(), (1, 4, 4), 3)


def test_the_command_line_says_what_is_missing(tmp_path, capsys):
    from jem_nb.terminal import main
    assert main(['page', 'digits', str(tmp_path / 'out'), '--runtime', str(tmp_path)]) == 2
    assert 'it lacks dist/ort' in capsys.readouterr().err
