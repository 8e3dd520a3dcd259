"What 19_train refuses, and what it says."
import dataclasses
from types import SimpleNamespace

import pytest

from jem_nb.checkpoint import CheckpointError, checkpoints, load_checkpoint, save_checkpoint
from jem_nb.config import preset
from jem_nb.data import load
from jem_nb.step import start_state
from jem_nb.train import load_pretrained, load_weights, main, only_run, restore_state_, train

CFG = preset('digits', width=1, n_steps=2, batch_size=32, buffer_size=200, max_iters=2,
             precision='float32', channels_last=False, gap_limit=0.)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "A finished run, and room beside it."
    folder = tmp_path_factory.mktemp('run')
    train(CFG, folder / 'whole', progress=False)
    return SimpleNamespace(whole=folder / 'whole', beside=folder)


def trained(folder, resume='auto', **fields):
    train(dataclasses.replace(CFG, **fields), folder, resume, progress=False)


def restored(run, **fields):
    "A checkpoint from before the field holdout, when there was one division only."
    tensors, meta = load_checkpoint(checkpoints(run.whole)[-1])
    del meta['config']['holdout']
    cfg = dataclasses.replace(CFG, **fields)
    restore_state_(start_state(cfg, load('digits', 'train')), cfg, tensors, meta)


def load_wider(run):
    tensors, meta = load_checkpoint(run.whole / 'model.safetensors')
    wider = meta | dict(arch=meta['arch'] | dict(width=2))
    load_weights(save_checkpoint(run.beside / 'wider.safetensors', tensors, wider))


def lock_twice(run):
    with only_run(run.beside / 'locked'), only_run(run.beside / 'locked'): pass


def lock_a_file(run):
    (run.beside / 'file').touch()
    with only_run(run.beside / 'file' / 'run'): pass


CASES = { # what is done, the exception, what is said
    'another recipe': (lambda r: trained(r.whole, lr=2e-3), CheckpointError, 'lr=0.001'),
    'a run is there': (lambda r: trained(r.whole, 'never'), CheckpointError, 'already holds a run'),
    'younger field': (lambda r: restored(r, holdout='last'), CheckpointError,
                      "made with holdout='usual'"),
    'large batch': (lambda r: trained(r.beside / 'big', batch_size=2000, buffer_size=2000),
                    ValueError, 'exceeds the 1257 images'),
    'unknown word': (lambda r: trained(r.whole, 'yes'), ValueError, 'auto or never'),
    'mirrored digits': (lambda r: trained(r.beside / 'flip', flip=True), ValueError,
                        'means something else'),
    'state of a run': (lambda r: load_weights(checkpoints(r.whole)[-1]), CheckpointError,
                       'not a finished model'),
    'another network': (load_wider, CheckpointError, 'does not fit the network that it names'),
    'unknown model': (lambda r: load_pretrained('imagenet'), ValueError, 'no pretrained model'),
    'two runs in a folder': (lock_twice, CheckpointError, 'another run is writing'),
    'folder in a file': (lock_a_file, OSError, 'choose another: --out, or folder= of fit'),
}


@pytest.mark.parametrize('case', CASES)
def test_refusal(case, run):
    act, kind, message = CASES[case]
    with pytest.raises(kind, match=message): act(run)


def test_older_checkpoint(run):
    "A field that is younger than a checkpoint had its default then, and is no reason to refuse."
    restored(run)


def test_command_line(capsys):
    "A command line is refused in one line."
    assert main(['--preset', 'digits', '--data-noise=-1']) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and 'data_noise=-1.0' in said


def test_refused_run_leaves_the_folder(run):
    "What refuses to go on with another recipe has changed nothing."
    before = {f.name: f.read_bytes() for f in run.whole.iterdir()}
    with pytest.raises(CheckpointError): trained(run.whole, lr=2e-3)
    assert before == {f.name: f.read_bytes() for f in run.whole.iterdir()}
