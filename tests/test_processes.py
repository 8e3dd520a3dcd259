"""Processes that train together are one run: the gradients of the joint batch, chains of their own, one folder; and they may be killed, lose a machine, or become one process."""
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
import torch

from helpers import ROOM, SMALL, TWO, end, finish, newest, record_of, same, start, start_run, wait_for_step
from jem_nb.buffer import take_shard
from jem_nb.checkpoint import checkpoints, load_checkpoint
from jem_nb.distributed import Processes
from jem_nb.train import main
from one_update import CASES, updated

STEPS = 25
SHORT = ['--n-epochs', 1, '--max-iters', STEPS]


@pytest.fixture(scope='module', params=[2, 4], ids='{} processes'.format)
def by_many(request, tmp_path_factory):
    "What several processes make of every case."
    file = tmp_path_factory.mktemp('update') / 'weights.pt'
    finish(start(*TWO[:-1], f'--nproc-per-node={request.param}', Path(__file__).parent / 'one_update.py', file))
    return torch.load(file)


@pytest.mark.parametrize('case', CASES)
def test_gradients(by_many, case):
    "An update by several processes is that of one process with the joint batch."
    (many, numbers), (one, numbers1) = by_many[case], updated(case, Processes())
    assert set(many) == set(one) and set(numbers) == set(numbers1)
    for k in one: torch.testing.assert_close(many[k], one[k], rtol=1e-4, atol=1e-5, msg=lambda m: f'{k}: {m}')
    for k in ('loss', 'e_data', 'acc', 'grad_norm'): assert numbers[k] == pytest.approx(numbers1[k], rel=1e-3, abs=1e-5), k
    if case == 'balance': assert numbers1['balance'] < .9 and numbers['balance'] == pytest.approx(numbers1['balance'], rel=1e-3)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_one_set_of_weights(by_many, precision):
    "Processes that walk chains of their own keep the same weights: a chain leaves the averaging of the gradients alone."
    between, moved = by_many['apart'][precision]
    assert between == 0 and moved > 1e-4


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run of two processes that nobody disturbs."
    folder = tmp_path_factory.mktemp('whole')
    finish(start_run(folder, *SHORT, torchrun=TWO))
    return folder


def test_chains(whole):
    "The saved buffer holds the chains of both processes, and none is a copy of another: their starts and their noise differ."
    chains = load_checkpoint(checkpoints(whole)[-1])[0]['buffer']
    assert chains.shape == (200, 1, 8, 8)
    assert len(chains.flatten(1).unique(dim=0)) == 200
    first = load_checkpoint(whole / 'model.safetensors')[0]['buffer']
    assert torch.equal(chains, first)
    for rank in (0, 1):                                             # a start lies in [-1, 1], so what is outside was walked
        assert (take_shard(chains, 0, rank, 2).flatten(1).abs().amax(1) > 1).float().mean() > .3


def workers(launcher): # {rank: process number} of the processes that torchrun has started
    found = {}
    for child in Path(f'/proc/{launcher}/task/{launcher}/children').read_text().split():
        words = dict(w.split('=', 1) for w in Path(f'/proc/{child}/environ').read_text().split('\0') if '=' in w)
        if 'RANK' in words: found[int(words['RANK'])] = int(child)
    return found


def test_worker_killed(whole, tmp_path):
    "A process that is killed is started again by torchrun with the others, and the run ends bit for bit as undisturbed."
    p = start_run(tmp_path, *SHORT, torchrun=[*TWO, '--max-restarts=2'], pause=12)
    wait_for_step(tmp_path, 10, p)
    found = workers(p.pid)
    assert set(found) == {0, 1}
    os.kill(found[0], signal.SIGKILL)
    rc, out, err = end(p)
    assert rc == 0, out[-2000:] + err[-4000:]
    assert 'Signal 9' in err or 'SIGKILL' in err or '-9' in err
    assert record_of(tmp_path)['restarts'] and record_of(tmp_path)['processes'] == 2
    same(whole, tmp_path, STEPS)


@pytest.fixture
def machine(tmp_path):
    "Starts one of two launchers, each with a process of its own: they stand for two machines. The first to come holds the keys by which they meet."
    with socket.socket() as s: s.bind(('localhost', 0)); port = s.getsockname()[1]
    words = ['-m', 'torch.distributed.run', '--nnodes=2', '--nproc-per-node=1', '--max-restarts=2', '--rdzv-backend=c10d', f'--rdzv-endpoint=localhost:{port}', '--rdzv-id=jem']
    started = []
    def launch(pause=12):
        p, until = start_run(tmp_path, *SHORT, torchrun=words, pause=pause), time.monotonic() + 60 * ROOM
        started.append(p)
        while True:                                                # until somebody listens, so that it is the first one who does
            try: socket.create_connection(('localhost', port), 1).close(); return p
            except OSError: assert p.poll() is None and time.monotonic() < until, end(p); time.sleep(.05)
    yield launch
    for p in started:
        if p.poll() is None: p.terminate(); p.communicate()        # only where a test has failed


SEPARATE = 'TORCH_DISABLE_SHARE_RDZV_TCP_STORE'                    # as in the README's command for several machines


@pytest.mark.parametrize('store', ['shared', 'separate'])
def test_worker_killed_elsewhere(whole, tmp_path, machine, monkeypatch, store):
    "A process of one of two machines is killed: both start theirs again, and the run ends bit for bit as undisturbed, whichever store of keys torchrun uses."
    monkeypatch.setenv(SEPARATE, '01'[store == 'separate'])
    a, b = machine(), machine()
    wait_for_step(tmp_path, 10, a)
    victim, = workers(b.pid).values()
    other, = workers(a.pid).values()
    os.kill(victim, signal.SIGKILL)
    os.kill(other, signal.SIGUSR1)                                 # go on, and find the other one gone
    finish(a), finish(b)
    assert record_of(tmp_path)['restarts'] and record_of(tmp_path)['processes'] == 2
    same(whole, tmp_path, STEPS)


def test_machine_lost(whole, tmp_path, machine, monkeypatch):
    "One of two machines is gone at once, launcher and all; another takes its place, and the run ends bit for bit as undisturbed."
    monkeypatch.setenv(SEPARATE, '1')                              # else the newcomer is not told where to meet
    a, b = machine(), machine()
    wait_for_step(tmp_path, 10, a)
    victim, = workers(b.pid).values()
    other, = workers(a.pid).values()
    b.kill(); os.kill(victim, signal.SIGKILL); b.communicate()
    os.kill(other, signal.SIGUSR1)                                 # go on, and find the other one gone
    c = machine(pause=None)
    finish(a), finish(c)
    assert record_of(tmp_path)['restarts'] and record_of(tmp_path)['processes'] == 2
    same(whole, tmp_path, STEPS)


def alone(folder, *words): # the exit status of a run of one process, here
    return main([*SMALL, *map(str, words), '--out', str(folder)])


def test_world_size_changes(whole, tmp_path):
    "A baseline of two processes goes on as one and again as two, and ends with the weights of one process alone; a JEM of two goes on as one."
    words, folder = ['--n-epochs', 1, '--model', 'baseline'], tmp_path / 'changed'
    finish(start_run(folder, *words, '--max-iters', 12, torchrun=TWO))
    assert newest(folder) == 12 and record_of(folder)['status'] == 'truncated'
    assert alone(folder, *words, '--max-iters', 24) == 0
    assert newest(folder) == 24 and record_of(folder)['processes'] == 1
    finish(start_run(folder, *words, torchrun=TWO))
    record = record_of(folder)
    assert (record['status'], record['steps'], record['processes'], record['restarts']) == ('complete', 39, 2, [12, 24])
    assert alone(tmp_path / 'one', *words) == 0
    a, b = (load_checkpoint(tmp_path / f / 'model.safetensors')[0] for f in ('changed', 'one'))
    assert set(a) == set(b)
    for k in a: assert (a[k] - b[k]).norm() <= .01 * b[k].norm(), k
    jem = shutil.copytree(whole, tmp_path / 'jem')
    assert alone(jem, '--n-epochs', 1) == 0
    record = record_of(jem)
    assert (record['status'], record['steps'], record['processes'], record['restarts']) == ('complete', 39, 1, [STEPS])


def test_unequal_shares(tmp_path):
    "A batch that two processes cannot share is refused in one line that says what to do, before a folder is made."
    rc, _, err = end(start_run(tmp_path / 'run', '--batch-size', 31, torchrun=TWO))
    assert rc != 0
    said = {line for line in err.splitlines() if line.startswith('error: ')}
    assert said == {'error: batch_size=31 cannot be shared equally by 2 processes: make it a multiple of 2'}, err
    assert not (tmp_path / 'run').exists()
