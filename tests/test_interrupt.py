"""A run that is stopped from outside goes on as if nothing had happened.

A notebook cannot show this, since it cannot kill its own process.
"""
import json
import signal

import pytest

from helpers import ROOT, end, finish, record_of, same, start, start_run, wait_for_step
from jem_nb.checkpoint import checkpoints, load_checkpoint

ONE = ['--n-epochs', 1]  # 39 steps


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The run that nobody disturbs."
    folder = tmp_path_factory.mktemp('whole')
    finish(start_run(folder, *ONE))
    return folder


@pytest.fixture(scope='module')
def killed_often(tmp_path_factory):
    "Where a run was killed twenty times, and the list of kills."
    folder = tmp_path_factory.mktemp('often')
    rc, out, err = end(start(ROOT / 'tests' / 'kill_often.py', folder, 20, 0))
    assert rc == 0, err
    return folder, json.loads(out.splitlines()[-1])


def test_killed_often(killed_often):
    """Twenty times SIGKILL at random moments, and the run ends bit for bit as undisturbed.

    That is: its weights, optimizer, chains and curve.
    """
    folder, log = killed_often
    assert [k['signal'] for k in log] == [signal.SIGKILL] * 20
    assert any(k['half_written'] for k in log)  # some came while a checkpoint was being written
    steps = [k['step'] for k in log]
    assert steps == sorted(steps)  # no kill loses a checkpoint
    assert len(set(steps)) >= 3 and steps[-1] < 117  # the run went on between kills
    # A restart is recorded once for each checkpoint that the run went on from.
    assert record_of(folder / 'killed')['restarts'] == sorted({s for s in steps if s > 0})
    assert record_of(folder / 'whole')['restarts'] == []
    same(folder / 'whole', folder / 'killed', 117)


def test_nothing_left_by_kills(killed_often):
    "What a killed run had half written is gone when the run is over."
    left = [f.name for f in (killed_often[0] / 'killed').glob('.*.tmp')]
    assert not left, f'{len(left)} files are left'


def test_killed(whole, tmp_path):
    "SIGKILL on the command line: the same command goes on, and ends bit for bit as undisturbed."
    p = start_run(tmp_path, *ONE, pause=12)
    wait_for_step(tmp_path, 10, p)
    p.kill()
    assert end(p)[0] == -signal.SIGKILL
    finish(start_run(tmp_path, *ONE))
    same(whole, tmp_path, 39)


def test_asked_to_stop(whole, tmp_path):
    """Ctrl-C and SIGTERM write a checkpoint at the very step, say so in one line and exit 130.

    The same command goes on from there.
    """
    for after, sig in ((5, signal.SIGINT), (20, signal.SIGTERM)):
        p = start_run(tmp_path, *ONE, pause=after + 2)
        wait_for_step(tmp_path, after, p)
        p.send_signal(sig)
        rc, _, err = end(p)
        assert rc == 130
        last = err.strip().splitlines()[-1]
        step = load_checkpoint(checkpoints(tmp_path)[-1])[1]['step']
        assert f'stopped at step {step}' in last and after <= step < 39
        assert not list(tmp_path.glob('.*.tmp'))
    finish(start_run(tmp_path, *ONE))
    same(whole, tmp_path, 39)
