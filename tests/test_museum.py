"Checkpoints of every former version are loaded, and a run goes on from them."
import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from jem_nb.checkpoint import CheckpointError, load_checkpoint
from jem_nb.config import Config
from jem_nb.data import load
from jem_nb.step import start_state
from jem_nb.train import load_weights, restore_state_, save_state, train
from jem_nb.your_network import OwnNetwork

MUSEUM = Path(__file__).parent / 'museum'
FILES = sorted(f.stem for f in MUSEUM.glob('*.safetensors') if not f.stem.endswith('-model'))


def network_of(meta):
    "For a checkpoint of a network that is not ours, such a network."
    if meta['config'].get('network') != 'own': return {}
    images = {split: load('digits', split) for split in ('train', 'valid')}
    return dict(model=OwnNetwork(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), splits=images)


def test_none_is_missing(): assert FILES == ['2a11e06', 'f16e547', 'fc359f4', 'own']


@pytest.mark.parametrize('name', FILES)
def test_goes_on(tmp_path, name):
    "Its own recipe, three steps further; what the file held is where the run starts."
    shutil.copy(MUSEUM / f'{name}.safetensors', tmp_path / 'checkpoint-00000003.safetensors')
    tensors, meta = load_checkpoint(MUSEUM / f'{name}.safetensors')
    cfg = dataclasses.replace(Config(**meta['config']), max_iters=6, ckpt_every=3)
    record = train(cfg, tmp_path, progress=False, **network_of(meta))
    assert (record['status'], record['steps'], record['restarts']) == ('truncated', 6, [3])

    later, about = load_checkpoint(tmp_path / 'checkpoint-00000006.safetensors')
    assert about['step'] == 6 and set(tensors) <= set(later)
    steps = {k: v.item() for k, v in later.items() if k.endswith('.step')}
    assert steps and set(steps.values()) == {6.} # Adam's own count went on, too
    weights = [k for k, v in tensors.items() if v.is_floating_point() and 'weight' in k]
    assert all(not torch.equal(later[k], tensors[k]) for k in weights)
    if name == 'own': # the newest: what is written now is what it holds
        assert set(later) == set(tensors) and set(about) == set(meta)


@pytest.mark.parametrize('name', FILES)
def test_nothing_is_lost(tmp_path, name):
    "Into a state whose numbers are all zero, and out again: every tensor is as it was."
    tensors, meta = load_checkpoint(MUSEUM / f'{name}.safetensors')
    cfg, more = Config(**meta['config']), network_of(meta)
    state = start_state(cfg, load('digits', 'train'), own=more.get('model'))
    with torch.no_grad():
        for v in (*state.model.parameters(), state.buffer.x): v.zero_()
    restore_state_(state, cfg, tensors, meta)
    again, about = load_checkpoint(save_state(state, cfg, tmp_path))
    for k, v in tensors.items(): assert torch.equal(again[k], v), k
    for k in meta.keys() - {'config', 'curve'}: assert about[k] == meta[k], k


def test_a_model_is_read():
    model, chains, about = load_weights(MUSEUM / 'f16e547-model.safetensors')
    with torch.no_grad(): energy = model.energy(load('digits', 'test').unit()[:5])
    assert energy.isfinite().all() and about['step'] == 6


def test_a_checkpoint_that_lacks_something_changes_nothing():
    "Only the first format may lack what it did not know."
    tensors, meta = load_checkpoint(MUSEUM / 'fc359f4.safetensors')
    cfg = Config(**meta['config'])
    state = start_state(cfg, load('digits', 'train'))
    before = [p.detach().clone() for p in state.model.parameters()]
    for name in ('guard', 'window'):
        less = {k: v for k, v in meta.items() if k != name}
        with pytest.raises(CheckpointError, match=f'lacks {name}: use the one before it'):
            restore_state_(state, cfg, tensors, less)
    assert all(map(torch.equal, before, state.model.parameters())) and state.step == 0
