"""What cannot work is refused in one line that says what to do, with exit status 2, before a folder is made."""
import re

import pytest
import torch

import jem_nb.train as training
from helpers import SMALL
from jem_nb import cli
from jem_nb.checkpoint import CheckpointError
from jem_nb.config import preset
from jem_nb.data import ImageSet, to_uint8
from jem_nb.train import load_pretrained, train

REMEDY = re.compile(r'\b(make it|make the|set \w+=|add some|choose|resize|enlarge|repair|use |wanted|did you mean|the presets are|To get it|give|such as)\b|--\w')
X, Y = torch.randint(256, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8), torch.arange(64) % 10


def images(x=X, y=Y, split='train'): return ImageSet(x, y, 'small', split, tuple('0123456789'))
def both(x=X, y=Y, vx=X, vy=Y): return dict(train=images(x, y), valid=images(vx, vy, 'valid'))
def labels(value): y = Y.clone(); y[5] = value; return y
def pixels(value): x = X.float() / 127.5 - 1; x[3, 0, 2, 2] = value; return both(to_uint8(x))


DATA = { # what is wrong with the data: how it is made, the exception, a part of the message
    'empty': (lambda: both(X[:0], Y[:0]), ValueError, 'no images'),
    'empty validation split': (lambda: both(vx=X[:0], vy=Y[:0]), ValueError, 'no images'),
    'one image': (lambda: both(X[:1], Y[:1]), ValueError, 'batch_size=32 exceeds the 1 images'),
    'batch larger than the data': (lambda: both(X[:31], Y[:31]), ValueError, 'batch_size=32 exceeds the 31 images'),
    'label above the classes': (lambda: both(y=labels(10)), ValueError, 'labels run from 0 to 10, but there are 10 classes'),
    'label below -1': (lambda: both(y=labels(-2)), ValueError, 'labels run from -2'),
    'label missing': (lambda: both(y=labels(-1)), ValueError, '1 images have no label'),
    'label missing in validation': (lambda: both(vy=labels(-1)), ValueError, '1 images have no label'),
    'class missing': (lambda: both(y=Y % 9), ValueError, 'no image of class 9'),
    'NaN': (lambda: pixels(float('nan')), ValueError, '1 of 4096 values are NaN or inf'),
    'inf': (lambda: pixels(float('inf')), ValueError, '1 of 4096 values are NaN or inf'),
    'float64': (lambda: both(X.double()), TypeError, 'got torch.float64'),
    'labels of int32': (lambda: both(y=Y.int()), TypeError, 'torch.int32'),
    'two channels': (lambda: both(X.repeat(1, 2, 1, 1)), ValueError, 'images of shape (n, 1 or 3, h, w)'),
    'other channels in validation': (lambda: both(vx=X.repeat(1, 3, 1, 1)), ValueError, 'the splits do not match'),
    'smaller than the stride': (lambda: both(X[..., :2, :2], vx=X[..., :2, :2]), ValueError, '2×2 pixels'),
    'not square': (lambda: both(X[..., :6], vx=X[..., :6]), ValueError, '8×6 pixels'),
}
WORDS = { # what is wrong with the options: the words, the fields, the exception, a part of the message
    '0 steps': ('--n-steps 0', dict(n_steps=0), ValueError, 'n_steps=0'),
    'negative data noise': ('--data-noise=-0.1', dict(data_noise=-.1), ValueError, 'data_noise=-0.1'),
    'negative chain noise': ('--noise-scale=-1', dict(noise_scale=-1.), ValueError, 'noise_scale=-1'),
    'noise is NaN': ('--data-noise nan', dict(data_noise=float('nan')), ValueError, 'data_noise=nan'),
    'buffer not divisible by the classes': ('--class-cond yes --buffer-size 205', dict(class_cond=True, buffer_size=205), ValueError, 'buffer_size=205'),
    'buffer smaller than a batch': ('--buffer-size 20', dict(buffer_size=20), ValueError, 'exceeds buffer_size=20'),
    '0 epochs': ('--n-epochs 0', dict(n_epochs=0), ValueError, 'n_epochs=0'),
    'depth of no Wide ResNet': ('--depth 11', dict(depth=11), ValueError, 'depth=11'),
    'held out where there is one division': ('--holdout last', dict(holdout='last'), ValueError, "holdout='last': digits is one file"),
    'batch of 0': ('--batch-size 0', dict(batch_size=0), ValueError, 'batch_size=0'),
}
ONLY_WORDS = { # what only a command line can get wrong: the words, parts of the message
    'unknown preset': ('--preset digit', "no preset 'digit'", 'did you mean digits?'),
    'unknown option': ('--nsteps 3', '--nsteps', 'did you mean --n-steps?'),
    'no number': ('--n-steps three', '--n-steps', "'three'"),
    'no choice': ('--model gem', '--model', 'jem'),
    'neither yes nor no': ('--flip perhaps', '--flip', 'neither yes nor no'),
    'unknown data set': ('--dataset minst', "no data set 'minst'", 'did you mean mnist?'),
}


def refused(words, capsys, parts, folder, program=cli.main): # a command line that must fail in one line
    try: status = program(words)
    except SystemExit as e: status = e.code
    out, err = capsys.readouterr()
    assert status == 2 and out == ''
    line, = err.strip().splitlines()
    assert line.startswith('error: ') and all(p in line for p in parts), line
    assert not folder.exists()
    return line


def has_remedy(text): assert REMEDY.search(text), f'no remedy: {text}'


@pytest.fixture
def folder(tmp_path): return tmp_path / 'run'


@pytest.mark.parametrize('case', DATA)
def test_data_command(case, folder, capsys, monkeypatch):
    "A data set that cannot be trained on ends the command with one line."
    make, _, part = DATA[case]
    monkeypatch.setattr(training, 'load', lambda name, split, **how: make()[split])
    has_remedy(refused(['train', *SMALL, '--out', str(folder)], capsys, [part], folder))


@pytest.mark.parametrize('case', DATA)
def test_data(case, folder):
    "The same from Python, as TypeError or ValueError."
    make, kind, part = DATA[case]
    cfg = preset('digits', width=1, n_steps=2, batch_size=32, buffer_size=200)
    with pytest.raises(kind, match=re.escape(part)) as e: train(cfg, folder, progress=False, splits=make())
    assert '\n' not in str(e.value) and not folder.exists()
    has_remedy(str(e.value))


@pytest.mark.parametrize('case', WORDS)
def test_options(case, folder, capsys):
    "An option of a value that cannot work ends the command with one line."
    words, _, _, part = WORDS[case]
    has_remedy(refused(['train', *SMALL, *words.split(), '--out', str(folder)], capsys, [part], folder))


@pytest.mark.parametrize('case', WORDS)
def test_fields(case, folder):
    "The same from Python."
    _, fields, kind, part = WORDS[case]
    with pytest.raises(kind, match=re.escape(part)) as e: train(preset('digits', **{**dict(width=1, n_steps=2, batch_size=32, buffer_size=200), **fields}), folder, progress=False)
    assert '\n' not in str(e.value) and not folder.exists()
    has_remedy(str(e.value))


@pytest.mark.parametrize('program', ['jem_nb', 'jem_nb.train'])
@pytest.mark.parametrize('case', ONLY_WORDS)
def test_words(case, program, folder, capsys):
    "A word that is not known ends the command with one line that names the nearest that is, or those that are."
    words, *parts = ONLY_WORDS[case]
    words = [*SMALL, *words.split(), '--out', str(folder)]
    if program == 'jem_nb': refused(['train', *words], capsys, parts, folder)
    else: refused(words, capsys, parts, folder, training.main)


def test_unknown_command(capsys, tmp_path):
    "A command that does not exist is refused in one line that names those that do."
    refused(['trian'], capsys, ['trian', 'train'], tmp_path / 'run')


def test_missing_data(folder, tmp_path, capsys, monkeypatch):
    "A data set that is not there: one line with the folder, the files and the ways to get them."
    (tmp_path / 'nothing').mkdir()
    monkeypatch.setenv('JEM_NB_DATA', str(tmp_path / 'nothing'))
    has_remedy(refused(['train', '--preset', 'mnist', '--out', str(folder)], capsys, [str(tmp_path / 'nothing'), 'mnist train: not in', 'To get it', 'JEM_NB_DATA'], folder))


def test_no_folder_can_be_made(tmp_path, capsys):
    "A folder that cannot be made: one line with the remedy."
    (tmp_path / 'file').write_text('')
    has_remedy(refused(['train', *SMALL, '--out', str(tmp_path / 'file' / 'run')], capsys, [str(tmp_path / 'file'), 'choose another with --out'], tmp_path / 'none'))


def test_resume_word(folder):
    "From Python, resume is auto or never."
    with pytest.raises(ValueError, match='auto or never is wanted'): train(preset('digits'), folder, 'yes')
    assert not folder.exists()


@pytest.mark.parametrize('x, kind, part', [(X.repeat(1, 3, 1, 1).float() / 127.5 - 1, ValueError, 'this network takes images (n, 1, 8, 8), not (64, 3, 8, 8)'),
                                           (X[..., :4, :4].float(), ValueError, 'not (64, 1, 4, 4)'), (X, TypeError, 'float')])
def test_model_of_other_images(x, kind, part):
    "A trained model that is given images of other channels, another size or bytes says which it takes."
    model, _, _ = load_pretrained('digits')
    with pytest.raises(kind, match=re.escape(part)) as e: model(x)
    assert '\n' not in str(e.value)


def test_model_that_does_not_exist(tmp_path, capsys):
    "A model that is neither a run nor shipped: one line with those that are; the state of a run is no model."
    refused(['eval', str(tmp_path / 'none')], capsys, ['neither the folder of a finished run nor a model that ships', 'digits_jem'], tmp_path / 'none')
    with pytest.raises(CheckpointError, match='cannot be used'): (tmp_path / 'x.safetensors').write_bytes(b'x'); training.load_weights(tmp_path / 'x.safetensors')
