"What 19_train promises beyond its page: resumption, alarms, what is kept, the command line."
import argparse
import dataclasses
import os
import platform
import subprocess
import sys
import warnings
import weakref

import pytest
import torch

import jem_nb.train as training
from jem_nb.checkpoint import checkpoints, load_checkpoint
from jem_nb.config import config_from_options, model_config, preset
from jem_nb.data import load
from jem_nb.precision import choose, crowding, uncrowded
from jem_nb.step import Guard, is_healthy, start_state
from jem_nb.train import (add_train_options, load_weights, only_run, plain_warnings, roll_back_,
    save_state, slim_weights, train)

SHORT = preset('digits', width=1, lr=3e-3, batch_size=32, n_steps=5, n_epochs=4, buffer_size=200,
               ckpt_every=10, precision='float32', channels_last=False, max_iters=24, gap_limit=0.)


def changed(**fields): return dataclasses.replace(SHORT, **fields)


def trained(folder, cfg=SHORT, **fields):
    return train(dataclasses.replace(cfg, **fields), folder, progress=False)


# ---- resumption ----

CASES = {
    **{model: model_config(SHORT, model) for model in ('jem', 'baseline_bn', 'direct', 'igebm',
                                                       'igebm_uncond')},
    'smooth': dataclasses.replace(model_config(SHORT, 'baseline'), slope_weight=.1,
                                  slope_of='logits'),
    'resnet': dataclasses.replace(model_config(SHORT, 'resnet110'), depth=8),
    'matched': model_config(SHORT, 'matched'),
    'matched, second phase': dataclasses.replace(
        model_config(SHORT, 'matched'), px_weight=.1, px_delay=10, px_ramp=5, noise_scale=.02,
        class_cond=True, flow_steps=5),
    'dropout': changed(dropout=.3, separate_batches=True, px_delay=5, px_ramp=5),
    'many options': changed(
        ema=.9, norm='batch', balance=True, noise_levels='uniform', separate_batches=True,
        labels_per_class=3, n_chains=16, step_end=.5, optimizer='sgd', lr=.01),
}


@pytest.mark.parametrize('case', CASES)
def test_resumed(case, tmp_path):
    "A run in three pieces is the uninterrupted one, bit for bit."
    whole = trained(tmp_path / 'whole', CASES[case])
    for stop in (7, 13, 24): pieces = trained(tmp_path / 'pieces', CASES[case], max_iters=stop)
    files = [checkpoints(tmp_path / name)[-1] for name in ('whole', 'pieces')]
    a, b = (load_checkpoint(f)[0] for f in files)
    assert set(a) == set(b)
    for name in a: assert torch.equal(a[name], b[name]), name
    assert whole['metrics'] == pieces['metrics'] and whole['curve'] == pieces['curve']
    assert pieces['restarts'] == [7, 13] and whole['restarts'] == []


def test_record(tmp_path):
    record = trained(tmp_path, max_iters=2)
    assert (record['status'], record['steps']) == ('truncated', 2)
    assert (record['alarms'], record['restarts'], record['processes']) == ([], [], 1)
    assert record['computed'] == [dict(step=0, precision='float32', channels_last=False)]


def test_precision_is_kept(tmp_path, monkeypatch):
    "A run that was left to the machine keeps what it chose then, and changes when told to."
    auto = changed(precision='auto', channels_last='auto')
    with monkeypatch.context() as m: # as on a machine that prefers bfloat16
        other = dict(precision='bfloat16', channels_last=True)
        m.setattr(training, 'settled', lambda cfg, p: dataclasses.replace(cfg, **other))
        first = trained(tmp_path, auto, max_iters=2)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        kept = trained(tmp_path, auto, max_iters=3)
        told = trained(tmp_path, auto, max_iters=4, precision='float32')
    used = [r['config']['precision'] for r in (first, kept, told)]
    assert used == ['bfloat16', 'bfloat16', 'float32']
    assert [c['step'] for c in told['computed']] == [0, 3]
    said = [str(w.message) for w in said]
    if choose().precision == 'float32': # then bfloat16 is slow here, and the second call said so
        assert 'times as long as float32' in said[0] and '--precision float32' in said[0]
    assert 'not bit for bit' in said[-1]


def test_finished_run(tmp_path):
    "Asking for a finished run again returns its record and changes nothing."
    best = changed(select='best', eval_every=1, n_epochs=2, ckpt_every=20, lr=8e-3, max_iters=0)
    assert trained(tmp_path, best, max_iters=60)['status'] == 'truncated'
    record = trained(tmp_path, best)
    scores = [row['valid_acc'] for row in record['curve'] if 'valid_acc' in row]
    assert (record['status'], record['metrics']['valid_acc']) == ('complete', max(scores))
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir() if f.is_file()}
    assert trained(tmp_path, best)['metrics'] == record['metrics']
    assert before == {f.name: f.read_bytes() for f in tmp_path.iterdir() if f.is_file()}


# ---- alarms ----

def test_recipe_that_cannot_work(tmp_path):
    "It is tried twice more, from the start, and leaves no model."
    record = trained(tmp_path, gap_limit=20., step_size=1e9, lr=100., retries=2)
    assert record['status'] == 'diverged'
    assert not (tmp_path / 'model.safetensors').exists()
    assert [alarm['to'] for alarm in record['alarms']] == [0, 0, None]


def test_health():
    watched = changed(gap_limit=20.)
    assert not is_healthy(Guard(gap=-8.), watched)
    assert is_healthy(Guard(gap=-2., acc=.9, best=.9), watched)


def test_last_alarm(tmp_path):
    "An alarm is noted also where no try is left."
    state = start_state(SHORT, load('digits', 'train'))
    save_state(state, SHORT, tmp_path)
    assert [roll_back_(state, SHORT, tmp_path, 'planted') for _ in range(4)] == [True] * 3 + [False]
    assert len(state.alarms) == 4


def test_bad_way(tmp_path):
    "A checkpoint that lies on the way from one alarm to the next is not trusted, nor is its start."
    cfg = changed(keep_ckpts=3)
    state = start_state(cfg, load('digits', 'train'))
    for state.step in (0, 10, 20): save_state(state, cfg, tmp_path)
    state.step = 25
    roll_back_(state, SHORT, tmp_path, 'planted')
    assert state.step == 20
    state.step = 30
    save_state(state, cfg, tmp_path)
    state.step = 32
    roll_back_(state, SHORT, tmp_path, 'planted')
    assert state.step == 10


# ---- files ----

def test_lock_is_free_again(tmp_path):
    "The folder is free after a run, and swept of what a kill cut off."
    with only_run(tmp_path): pass
    (tmp_path / '.checkpoint-00000001.safetensors.x.tmp').touch()
    with only_run(tmp_path): assert [f.name for f in tmp_path.iterdir()] == ['.lock']


def test_slim_weights(tmp_path):
    trained(tmp_path, max_iters=2)
    model, _, _ = load_weights(tmp_path / 'model.safetensors')
    slim = slim_weights(tmp_path / 'model.safetensors', tmp_path / 'slim.safetensors', 7,
                        samples=torch.zeros(1))
    few, chains, _ = load_weights(slim)
    assert chains.shape == (7, 1, 8, 8)
    assert torch.equal(few.model.conv1.weight, model.model.conv1.weight)


# ---- the command line ----

LOG = """
import time
from jem_nb.train import progress_bar
with progress_bar(300, 'a log') as bar:
    for i in range(300):
        bar.set_postfix(i=i, refresh=False)
        bar.update()
"""


def test_bar_in_a_log():
    "In a file the bar is a line every ten seconds, not one for each iteration."
    env = {k: v for k, v in os.environ.items() if k != 'TQDM_DISABLE'}
    command = [sys.executable, '-c', LOG]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stderr
    assert said.count('\n') <= 4 and '\r' not in said and '300/300' in said
    assert said.count('a log') <= 4


def test_options(tmp_path):
    words = f'--preset digits --width 1 --n-steps 2 --max-iters 3 --batch-size 16 --out {tmp_path}'
    args = add_train_options(argparse.ArgumentParser()).parse_args(words.split())
    cfg = model_config(config_from_options(args), args.model)
    assert (cfg.width, cfg.n_steps, cfg.max_iters) == (1, 2, 3)


def test_warning_is_one_line(capsys):
    with plain_warnings(): warnings.warn('careful')
    assert capsys.readouterr().err == 'warning: careful\n'


def test_busy_cores(tmp_path, monkeypatch):
    "Where all threads wait for one another, a run computes in one and records it."
    monkeypatch.setattr('jem_nb.precision.crowding', lambda *a: 4.)
    torch.set_num_threads(2)
    try:
        record = trained(tmp_path, max_iters=1)
        assert torch.get_num_threads() == 2
    finally: torch.set_num_threads(1)
    assert record['device'].startswith(f'CPU {platform.machine()}, 1 of')


def test_idle_cores():
    "In one thread nobody waits; in two, the probe leaves as many as it found."
    assert crowding() == 1
    torch.set_num_threads(2)
    try:
        assert crowding(budget=.02) > 0
        assert torch.get_num_threads() == 2
    finally: torch.set_num_threads(1)


def test_what_is_timed_is_freed():
    "The copy of the network that is timed does not stay in memory as long as the run."
    def once(): pass
    alive = weakref.ref(once)
    how = uncrowded(once)
    del once
    with how: assert alive() is None


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_update_that_is_timed(precision, monkeypatch):
    "It computes in the run's precision, backward into the weights, and leaves the run as it was."
    cfg, images = changed(precision=precision), load('digits', 'train')
    state = start_state(cfg, images)
    before = {k: v.clone() for k, v in state.model.state_dict().items()}
    world, seen = torch.get_rng_state(), []
    logits = type(state.model).logits
    def watched(model, x):
        seen.append(logits(model, x).dtype)
        return logits(model, x)
    monkeypatch.setattr(type(state.model), 'logits', watched)
    once = training._own_update(state, cfg, images)
    for _ in range(2): once()
    after = state.model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert all(q.grad is None for q in state.model.parameters())
    assert torch.equal(torch.get_rng_state(), world)
    assert seen == [getattr(torch, precision)] * 2
