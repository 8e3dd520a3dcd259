"""A run that is stopped from outside goes on as if nothing had happened; what a notebook's own process cannot show."""
import os, signal, subprocess, sys, time
from pathlib import Path

import pytest
import torch

from jem_nb.checkpoint import checkpoints, load_checkpoint

ROOT = Path(__file__).parent.parent
WORDS = '--preset digits --width 1 --n-steps 3 --batch-size 32 --buffer-size 200 --n-epochs 2 --ckpt-every 5'.split()  # 78 steps


def start(out):
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    return subprocess.Popen([sys.executable, '-m', 'jem_nb.train', *WORDS, '--out', str(out)], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(out):
    p = start(out)
    text = p.communicate(timeout=300)
    assert p.returncode == 0, text
    return load_checkpoint(checkpoints(out)[-1])


def wait_for_step(out, step, p):
    for _ in range(1200):
        if any(int(f.stem.split('-')[1]) >= step for f in checkpoints(out)): return
        assert p.poll() is None, p.communicate()
        time.sleep(.05)
    raise TimeoutError(f'no checkpoint at step {step}')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The run that nobody disturbs."
    return finish(tmp_path_factory.mktemp('whole'))


def same(a, b):
    (ta, ma), (tb, mb) = a, b
    assert set(ta) == set(tb) and ma['step'] == mb['step'] == 78
    for k in ta: assert torch.equal(ta[k], tb[k]), k
    assert ma['curve'] == mb['curve']


def test_killed(whole, tmp_path):
    "SIGKILL at three moments: weights, optimizer, chains and curve end bit for bit as undisturbed."
    for step in (5, 25, 50):
        p = start(tmp_path)
        wait_for_step(tmp_path, step, p)
        p.send_signal(signal.SIGKILL); p.wait()
    same(whole, finish(tmp_path))


@pytest.mark.parametrize('sig', [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop(whole, tmp_path, sig):
    "Ctrl-C and SIGTERM write a checkpoint at the very step, say so in one line and exit 130; the same command goes on."
    p = start(tmp_path)
    wait_for_step(tmp_path, 5, p)
    p.send_signal(sig)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130
    last = err.strip().splitlines()[-1]
    step = load_checkpoint(checkpoints(tmp_path)[-1])[1]['step']
    assert f'stopped at step {step}' in last and step < 78
    assert not list(tmp_path.glob('.*.tmp'))
    same(whole, finish(tmp_path))
