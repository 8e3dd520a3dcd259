"What the tests of whole runs share: one small run, the ways to start it, and what it means that two runs are the same."
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from jem_nb.checkpoint import checkpoints, load_checkpoint
from jem_nb.train import main

ROOT = Path(__file__).parent.parent
SMALL = '--preset digits --width 1 --n-steps 2 --batch-size 32 --buffer-size 200 --ckpt-every 5'.split()  # 39 steps an epoch
SMALL += '--precision float32 --channels-last no'.split()  # not left to each process
ROOM = 10  # minutes that a test may wait before it calls a process stuck; no test measures time
TWO = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']


def environment(**more): return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), **more}


def start(*words, **how):
    "A Python process with both outputs in pipes."
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def start_run(out, *words, torchrun=(), pause=None, **how):
    "`python -m jem_nb.train` for the small run in a folder, perhaps by torchrun; `pause`: a step at which it waits for a signal."
    program = ['-m', 'jem_nb.train'] if pause is None else [ROOT / 'tests' / 'pausing_run.py', pause]
    return start(*torchrun, *program, *SMALL, *words, '--out', out, **how)


def run_here(out, *words):
    "The same command in this process, which saves the seconds of a start: its exit status."
    return main([*SMALL, *map(str, words), '--out', str(out)])


def end(p, timeout=60 * ROOM):
    "(exit status, stdout, stderr) of a process, which must end by itself."
    try: out, err = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        p.terminate()                                              # torchrun then stops its workers
        try: said = p.communicate(timeout=60)
        except subprocess.TimeoutExpired: p.kill(); said = p.communicate()
        raise AssertionError(f'not over after {timeout} s: {said}') from None
    return p.returncode, out, err


def finish(p):
    "A process that must end well: its outputs."
    rc, out, err = end(p)
    assert rc == 0, out[-2000:] + err[-4000:]
    return out, err


def newest(folder): # step of the newest checkpoint, -1 for none
    return max((int(f.stem.split('-')[1]) for f in checkpoints(folder)), default=-1)


def wait_for_step(folder, step, p, seconds=60 * ROOM):
    "Wait until a run has written the checkpoint of a step, or a later one."
    until = time.monotonic() + seconds
    while newest(folder) < step:
        assert p.poll() is None, p.communicate()
        assert time.monotonic() < until, f'no checkpoint of step {step} in {seconds} s'
        time.sleep(.02)


def record_of(folder): return json.loads((Path(folder) / 'record.json').read_text())


def same(a, b, steps):
    "Two finished runs in two folders: weights, optimizer, chains, curve and all else that goes on are equal bit for bit."
    for name in (checkpoints(a)[-1].name, 'model.safetensors'):
        (ta, ma), (tb, mb) = (load_checkpoint(Path(f) / name) for f in (a, b))
        assert set(ta) == set(tb)
        for k in ta: assert torch.equal(ta[k], tb[k]), f'{name}: {k}'
        for k in ('step', 'curve', 'window', 'guard', 'best', 'alarms', 'optimizer'): assert ma.get(k) == mb.get(k), f'{name}: {k}'
        assert ma['step'] == steps
    assert (Path(a) / 'curve.csv').read_bytes() == (Path(b) / 'curve.csv').read_bytes()
    ra, rb = record_of(a), record_of(b)
    for k in ('curve', 'steps', 'metrics', 'alarms'): assert ra[k] == rb[k], k
