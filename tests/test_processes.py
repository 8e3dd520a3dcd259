"""Processes that train together are one run.

They take the gradients of the joint batch, walk chains of their own and write one folder. They
may be killed, lose a machine, or become one process.
"""
import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
import torch

from helpers import (
    ROOM, TWO, end, finish, newest, record_of, run_here, same, start, start_run,
    wait_for_step,
)
from jem_nb.buffer import take_shard
from jem_nb.checkpoint import checkpoints, load_checkpoint
from jem_nb.distributed import Processes
from one_update import CASES, updated

STEPS = 25
SHORT = ['--n-epochs', 1, '--max-iters', STEPS]


@pytest.fixture(scope='module', params=[2, 4], ids='{} processes'.format)
def by_many(request, tmp_path_factory):
    "What several processes make of every case."
    file = tmp_path_factory.mktemp('update') / 'weights.pt'
    program = Path(__file__).parent / 'one_update.py'
    finish(start(*TWO[:-1], f'--nproc-per-node={request.param}', program, file))
    return torch.load(file)


@pytest.mark.parametrize('case', CASES)
def test_gradients(by_many, case):
    "An update by several processes is that of one process with the joint batch."
    many, numbers = by_many[case]
    one, numbers_of_one = updated(case, Processes())
    assert set(many) == set(one) and set(numbers) == set(numbers_of_one)
    for name in one:
        torch.testing.assert_close(many[name], one[name], rtol=1e-4, atol=1e-5,
                                   msg=lambda m: f'{name}: {m}')
    for k in ('loss', 'e_data', 'acc', 'grad_norm'):
        assert numbers[k] == pytest.approx(numbers_of_one[k], rel=1e-3, abs=1e-5), k
    if case == 'balance':
        assert numbers_of_one['balance'] < .9
        assert numbers['balance'] == pytest.approx(numbers_of_one['balance'], rel=1e-3)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_one_set_of_weights(by_many, precision):
    """Processes that walk chains of their own keep the same weights.

    The gradients of a chain take no part in the averaging of the gradients of the weights.
    """
    between, moved = by_many['apart'][precision]
    assert between == 0 and moved > 1e-4


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run of two processes that nobody disturbs."
    folder = tmp_path_factory.mktemp('whole')
    finish(start_run(folder, *SHORT, torchrun=TWO))
    return folder


def test_chains(whole):
    """The saved buffer holds the chains of both processes, and none is a copy of another.

    Their starts differ, and so does their noise.
    """
    chains = load_checkpoint(checkpoints(whole)[-1])[0]['buffer']
    assert chains.shape == (200, 1, 8, 8)
    assert len(chains.flatten(1).unique(dim=0)) == 200
    first = load_checkpoint(whole / 'model.safetensors')[0]['buffer']
    assert torch.equal(chains, first)
    for rank in (0, 1):
        largest = take_shard(chains, 0, rank, 2).flatten(1).abs().amax(1)
        walked = largest > 1  # a start lies in [-1, 1]
        assert walked.float().mean() > .3


def workers(launcher):
    "{rank: process number} of the processes that torchrun has started."
    found = {}
    for child in Path(f'/proc/{launcher}/task/{launcher}/children').read_text().split():
        for variable in Path(f'/proc/{child}/environ').read_text().split('\0'):
            name, _, value = variable.partition('=')
            if name == 'RANK': found[int(value)] = int(child)
    return found


def assert_restarted(folder):
    "A run of two processes has ended that went on from a checkpoint."
    record = record_of(folder)
    assert record['restarts'] and record['processes'] == 2


def test_worker_killed(whole, tmp_path):
    """A process that is killed is started again by torchrun with the others.

    The run ends bit for bit as undisturbed.
    """
    p = start_run(tmp_path, *SHORT, torchrun=[*TWO, '--max-restarts=2'], pause=12)
    wait_for_step(tmp_path, 10, p)
    found = workers(p.pid)
    assert set(found) == {0, 1}
    os.kill(found[0], signal.SIGKILL)
    _, err = finish(p)
    assert 'Signal 9' in err or 'SIGKILL' in err or '-9' in err
    assert_restarted(tmp_path)
    same(whole, tmp_path, STEPS)


def free_port():
    with socket.socket() as s:
        s.bind(('localhost', 0))
        return s.getsockname()[1]


def wait_until_somebody_listens(port, p):
    "Wait for a port of this machine to be open, while a process runs that is to open it."
    until = time.monotonic() + 60 * ROOM
    while True:
        try: socket.create_connection(('localhost', port), 1).close()
        except OSError:
            assert p.poll() is None and time.monotonic() < until, end(p)
            time.sleep(.05)
        else: return


@pytest.fixture
def machine(tmp_path):
    """Starts one of two launchers, each with a process of its own: they stand for two machines.

    The first to come holds the keys by which they meet.
    """
    port, started = free_port(), []
    words = ['-m', 'torch.distributed.run', '--nnodes=2', '--nproc-per-node=1',
             '--max-restarts=2', '--rdzv-backend=c10d', f'--rdzv-endpoint=localhost:{port}',
             '--rdzv-id=jem']

    def launch(pause=12):
        p = start_run(tmp_path, *SHORT, torchrun=words, pause=pause)
        started.append(p)
        wait_until_somebody_listens(port, p)  # so that the first one to come is the one who does
        return p

    yield launch
    for p in started:
        if p.poll() is None:  # only where a test has failed
            p.terminate()
            p.communicate()


def kill_the_worker_of(lost, other):
    "Kill the process of one launcher; that of the other, which waits, goes on and finds it gone."
    victim, = workers(lost.pid).values()
    waiting, = workers(other.pid).values()
    os.kill(victim, signal.SIGKILL)
    os.kill(waiting, signal.SIGUSR1)


# As in the README's command for several machines.
SEPARATE = 'TORCH_DISABLE_SHARE_RDZV_TCP_STORE'


@pytest.mark.parametrize('store', ['shared', 'separate'])
def test_worker_killed_elsewhere(whole, tmp_path, machine, monkeypatch, store):
    """A process of one of two machines is killed, and both start theirs again.

    The run ends bit for bit as undisturbed, whichever store of keys torchrun uses.
    """
    monkeypatch.setenv(SEPARATE, '1' if store == 'separate' else '0')
    a, b = machine(), machine()
    wait_for_step(tmp_path, 10, a)
    kill_the_worker_of(b, other=a)
    finish(a)
    finish(b)
    assert_restarted(tmp_path)
    same(whole, tmp_path, STEPS)


def test_machine_lost(whole, tmp_path, machine, monkeypatch):
    """One of two machines is gone at once, launcher and all, and another takes its place.

    The run ends bit for bit as undisturbed.
    """
    monkeypatch.setenv(SEPARATE, '1')  # else the newcomer is not told where to meet
    a, b = machine(), machine()
    wait_for_step(tmp_path, 10, a)
    victim, = workers(b.pid).values()
    waiting, = workers(a.pid).values()
    b.kill()
    os.kill(victim, signal.SIGKILL)
    b.communicate()
    os.kill(waiting, signal.SIGUSR1)  # goes on, and finds the other one gone
    c = machine(pause=None)
    finish(a)
    finish(c)
    assert_restarted(tmp_path)
    same(whole, tmp_path, STEPS)


def has_ended(folder, processes, restarts):
    "A run has come to the end of its only epoch, in so many processes and from these checkpoints."
    record = record_of(folder)
    assert record['status'] == 'complete' and record['steps'] == 39
    assert record['processes'] == processes and record['restarts'] == restarts


def test_world_size_changes(whole, tmp_path):
    """A baseline of two processes goes on as one and again as two.

    It ends with the weights of one process alone. A JEM of two processes goes on as one.
    """
    words, folder = ['--n-epochs', 1, '--model', 'baseline'], tmp_path / 'changed'
    finish(start_run(folder, *words, '--max-iters', 12, torchrun=TWO))
    assert newest(folder) == 12 and record_of(folder)['status'] == 'truncated'
    assert run_here(folder, *words, '--max-iters', 24) == 0
    assert newest(folder) == 24 and record_of(folder)['processes'] == 1
    finish(start_run(folder, *words, torchrun=TWO))
    has_ended(folder, processes=2, restarts=[12, 24])
    assert run_here(tmp_path / 'one', *words) == 0
    changed, _ = load_checkpoint(folder / 'model.safetensors')
    one, _ = load_checkpoint(tmp_path / 'one' / 'model.safetensors')
    assert set(changed) == set(one)
    for k in changed: assert (changed[k] - one[k]).norm() <= .01 * one[k].norm(), k
    jem = shutil.copytree(whole, tmp_path / 'jem')
    assert run_here(jem, '--n-epochs', 1) == 0
    has_ended(jem, processes=1, restarts=[STEPS])


def test_unequal_shares(tmp_path):
    "A batch that two processes cannot share is refused in one line, before a folder is made."
    status, _, err = end(start_run(tmp_path / 'run', '--batch-size', 31, torchrun=TWO))
    assert status != 0
    said = {line for line in err.splitlines() if line.startswith('error: ')}  # of both processes
    assert said == {'error: batch_size=31 cannot be shared equally by 2 processes: '
                    'make it a multiple of 2'}, err
    assert not (tmp_path / 'run').exists()


def fitted_by_two(folder, **more):
    "Status and what was said of jem_nb.fit in two processes."
    program = Path(__file__).parent / 'fit_by_many.py'
    return end(start(*TWO, program, folder, json.dumps(more)))


def test_fit(tmp_path):
    "Both end with one model, and one of them speaks."
    status, _, err = fitted_by_two(tmp_path, n_epochs=3)
    assert status == 0, err
    one, other = (json.loads((tmp_path / f'{rank}.json').read_text()) for rank in (0, 1))
    assert one == other and one['steps'] > 10
    assert err.count('runs in') == 1


def test_fit_in_minutes(tmp_path):
    "Each process would plan another length, and wait for the others for ever."
    status, _, err = fitted_by_two(tmp_path, minutes=.05)
    assert status and 'Say n_epochs=' in err and not (tmp_path / 'run').exists()
