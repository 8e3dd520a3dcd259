"""What cannot work is refused before a folder is made.

The refusal is one line that says what to do, and the exit status is 2.
"""
import re

import pytest
import torch

import jem_nb.train as training
from helpers import SMALL, one_line
from jem_nb import cli
from jem_nb.checkpoint import CheckpointError
from jem_nb.config import preset
from jem_nb.data import ImageSet, to_uint8
from jem_nb.train import load_pretrained, train

ADVICE = [  # a message that says what to do has one of these words, or names an option
    'make it', 'make the', r'set \w+=', 'add some', 'choose', 'resize', 'enlarge', 'repair', 'use ',
    'wanted', 'did you mean', 'the presets are', 'To get it', 'give', 'such as',
]
REMEDY = re.compile(rf'\b({"|".join(ADVICE)})\b|--\w')
SMALL_FIELDS = dict(width=1, n_steps=2, batch_size=32, buffer_size=200)


# ---- data sets that are wrong in one respect ----

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randint(256, (64, 1, 8, 8), generator=GENERATOR).to(torch.uint8)
Y = torch.arange(64) % 10
NAN, INF = float('nan'), float('inf')


def images(x=X, y=Y, split='train'): return ImageSet(x, y, 'small', split, tuple('0123456789'))


def both(x=X, y=Y, valid_x=X, valid_y=Y):
    return dict(train=images(x, y), valid=images(valid_x, valid_y, 'valid'))


def labels(value):
    "The labels, one of them replaced."
    y = Y.clone()
    y[5] = value
    return y


def pixels(value):
    "Both splits, one pixel of the images replaced before they become bytes."
    x = X.float() / 127.5 - 1
    x[3, 0, 2, 2] = value
    return both(to_uint8(x))


DATA = {  # what is wrong: how the data is made, what is raised, part of its message
    'empty': (lambda: both(X[:0], Y[:0]), ValueError, 'no images'),
    'empty validation split': (
        lambda: both(valid_x=X[:0], valid_y=Y[:0]), ValueError, 'no images'),
    'one image': (
        lambda: both(X[:1], Y[:1]), ValueError, 'batch_size=32 exceeds the 1 images'),
    'batch larger than the data': (
        lambda: both(X[:31], Y[:31]), ValueError, 'batch_size=32 exceeds the 31 images'),
    'label above the classes': (
        lambda: both(y=labels(10)), ValueError,
        'labels run from 0 to 10, but there are 10 classes'),
    'label below -1': (lambda: both(y=labels(-2)), ValueError, 'labels run from -2'),
    'label missing': (lambda: both(y=labels(-1)), ValueError, '1 images have no label'),
    'label missing in validation': (
        lambda: both(valid_y=labels(-1)), ValueError, '1 images have no label'),
    'class missing': (lambda: both(y=Y % 9), ValueError, 'no image of class 9'),
    'NaN': (lambda: pixels(NAN), ValueError, '1 of 4096 values are NaN or inf'),
    'inf': (lambda: pixels(INF), ValueError, '1 of 4096 values are NaN or inf'),
    'float64': (lambda: both(X.double()), TypeError, 'got torch.float64'),
    'labels of int32': (lambda: both(y=Y.int()), TypeError, 'torch.int32'),
    'two channels': (
        lambda: both(X.repeat(1, 2, 1, 1)), ValueError, 'images of shape (n, 1 or 3, h, w)'),
    'other channels in validation': (
        lambda: both(valid_x=X.repeat(1, 3, 1, 1)), ValueError, 'the splits do not match'),
    'smaller than the stride': (
        lambda: both(X[..., :2, :2], valid_x=X[..., :2, :2]), ValueError, '2×2 pixels'),
    'not square': (
        lambda: both(X[..., :6], valid_x=X[..., :6]), ValueError, '8×6 pixels'),
}


# ---- options that are wrong ----

OPTIONS = {  # what is wrong: the words, the fields, part of the message
    '0 steps': ('--n-steps 0', dict(n_steps=0), 'n_steps=0'),
    'negative data noise': ('--data-noise=-0.1', dict(data_noise=-.1), 'data_noise=-0.1'),
    'negative chain noise': ('--noise-scale=-1', dict(noise_scale=-1.), 'noise_scale=-1'),
    'noise is NaN': ('--data-noise nan', dict(data_noise=NAN), 'data_noise=nan'),
    'buffer not divisible by the classes': (
        '--class-cond yes --buffer-size 205', dict(class_cond=True, buffer_size=205),
        'buffer_size=205'),
    'buffer smaller than a batch': (
        '--buffer-size 20', dict(buffer_size=20), 'exceeds buffer_size=20'),
    '0 epochs': ('--n-epochs 0', dict(n_epochs=0), 'n_epochs=0'),
    'depth of no Wide ResNet': ('--depth 11', dict(depth=11), 'depth=11'),
    'held out where there is one division': (
        '--holdout last', dict(holdout='last'), "holdout='last': digits is one file"),
    'batch of 0': ('--batch-size 0', dict(batch_size=0), 'batch_size=0'),
}
WORDS = {  # what only a command line can get wrong: the words, parts of the message
    'unknown preset': ('--preset digit', "no preset 'digit'", 'did you mean digits?'),
    'unknown option': ('--nsteps 3', '--nsteps', 'did you mean --n-steps?'),
    'no number': ('--n-steps three', '--n-steps', "'three'"),
    'no choice': ('--model gem', '--model', 'jem'),
    'neither yes nor no': ('--flip perhaps', '--flip', 'neither yes nor no'),
    'unknown data set': ('--dataset minst', "no data set 'minst'", 'did you mean mnist?'),
}


# ---- how a refusal looks ----

def refused(words, capsys, parts, folder, program=cli.main):
    "The line of a command that must fail: it has all parts, and no folder is made."
    try: status = program(words)
    except SystemExit as e: status = e.code
    out, err = capsys.readouterr()
    assert status == 2 and out == ''
    line = one_line(err)
    assert all(p in line for p in parts), line
    assert not folder.exists()
    return line


def has_remedy(text): assert REMEDY.search(text), f'no remedy: {text}'


def refused_by_train(kind, part, folder, fields, make=None):
    "The same from Python: an exception of one line with a remedy, and no folder is made."
    with pytest.raises(kind, match=re.escape(part)) as e:
        cfg = preset('digits', **{**SMALL_FIELDS, **fields})
        train(cfg, folder, progress=False, splits=make and make())
    assert '\n' not in str(e.value) and not folder.exists()
    has_remedy(str(e.value))


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
    refused_by_train(kind, part, folder, {}, make)


@pytest.mark.parametrize('case', OPTIONS)
def test_options(case, folder, capsys):
    "An option of a value that cannot work ends the command with one line."
    words, _, part = OPTIONS[case]
    words = ['train', *SMALL, *words.split(), '--out', str(folder)]
    has_remedy(refused(words, capsys, [part], folder))


@pytest.mark.parametrize('case', OPTIONS)
def test_fields(case, folder):
    "The same from Python, as ValueError."
    _, fields, part = OPTIONS[case]
    refused_by_train(ValueError, part, folder, fields)


@pytest.mark.parametrize('program', ['jem_nb', 'jem_nb.train'])
@pytest.mark.parametrize('case', WORDS)
def test_words(case, program, folder, capsys):
    "A word that is not known: one line names the nearest that is, or those that are."
    words, *parts = WORDS[case]
    words = [*SMALL, *words.split(), '--out', str(folder)]
    if program == 'jem_nb': refused(['train', *words], capsys, parts, folder)
    else: refused(words, capsys, parts, folder, training.main)


def test_unknown_command(capsys, tmp_path):
    "A command that does not exist is refused in one line that names those that do."
    refused(['trian'], capsys, ['trian', 'train'], tmp_path / 'run')


def test_missing_data(folder, tmp_path, capsys, monkeypatch):
    "A data set that is not there: one line with the folder, the files and the ways to get them."
    nothing = tmp_path / 'nothing'
    nothing.mkdir()
    monkeypatch.setenv('JEM_NB_DATA', str(nothing))
    parts = [str(nothing), 'mnist train: not in', 'To get it', 'JEM_NB_DATA']
    words = ['train', '--preset', 'mnist', '--out', str(folder)]
    has_remedy(refused(words, capsys, parts, folder))


def test_no_folder_can_be_made(tmp_path, capsys):
    "A folder that cannot be made: one line with the remedy."
    file = tmp_path / 'file'
    file.write_text('')
    parts = [str(file), 'choose another: --out, or folder= of fit']
    words = ['train', *SMALL, '--out', str(file / 'run')]
    has_remedy(refused(words, capsys, parts, tmp_path / 'none'))


def test_resume_word(folder):
    "From Python, resume is auto or never."
    with pytest.raises(ValueError, match='auto or never is wanted'):
        train(preset('digits'), folder, 'yes')
    assert not folder.exists()


@pytest.mark.parametrize('x, kind, part', [
    pytest.param(X.repeat(1, 3, 1, 1).float() / 127.5 - 1, ValueError,
                 'this network takes images (n, 1, 8, 8), not (64, 3, 8, 8)', id='three channels'),
    pytest.param(X[..., :4, :4].float(), ValueError, 'not (64, 1, 4, 4)', id='smaller'),
    pytest.param(X, TypeError, 'float', id='bytes'),
])
def test_model_of_other_images(x, kind, part):
    "A trained model that is given other channels, another size or bytes says which it takes."
    model, _, _ = load_pretrained('digits')
    with pytest.raises(kind, match=re.escape(part)) as e: model(x)
    assert '\n' not in str(e.value)


def test_model_that_does_not_exist(tmp_path, capsys):
    "A model that is neither a run nor shipped: one line with those that are."
    parts = ['neither the folder of a finished run nor a model that ships', 'digits_jem']
    refused(['eval', str(tmp_path / 'none')], capsys, parts, tmp_path / 'none')


def test_weights_that_cannot_be_read(tmp_path):
    "A file that is no model is said to be unusable."
    file = tmp_path / 'x.safetensors'
    file.write_bytes(b'x')
    with pytest.raises(CheckpointError, match='cannot be used'): training.load_weights(file)
