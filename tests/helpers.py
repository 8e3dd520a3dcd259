"""What the tests of whole runs share.

One small run, the ways to start it, and what it means that two runs are the same.
"""
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
SMALL = [  # options of the small run, 39 steps an epoch
    *'--preset digits --width 1 --n-steps 2 --batch-size 32'.split(),
    *'--buffer-size 200 --ckpt-every 5'.split(),
    *'--precision float32 --channels-last no'.split(),  # not left to each process
]
ROOM = 10  # minutes that a test may wait before it calls a process stuck; no test measures time
TWO = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']


# ---- starting a run and waiting for it ----

def environment(**more):
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), **more}


def start(*words, **how):
    "A Python process with both outputs in pipes."
    return subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, env=environment(),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def start_run(out, *words, torchrun=(), pause=None, **how):
    """`python -m jem_nb.train` for the small run in a folder.

    `torchrun`: the words that start it in several processes.
    `pause`: a step at which it waits for a signal.
    """
    program = ['-m', 'jem_nb.train']
    if pause is not None: program = [ROOT / 'tests' / 'pausing_run.py', pause]
    return start(*torchrun, *program, *SMALL, *words, '--out', out, **how)


def run_here(out, *words):
    "The same command in this process, which saves the seconds of a start: its exit status."
    return main([*SMALL, *map(str, words), '--out', str(out)])


def end(p, timeout=60 * ROOM):
    "(exit status, stdout, stderr) of a process, which must end by itself."
    try: out, err = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise AssertionError(f'not over after {timeout} s: {ended_by_force(p)}') from None
    return p.returncode, out, err


def ended_by_force(p):
    "Both outputs of a process that had to be ended."
    p.terminate()  # torchrun then stops its workers
    try: return p.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        p.kill()
        return p.communicate()


def finish(p):
    "A process that must end well: its outputs."
    status, out, err = end(p)
    assert status == 0, out[-2000:] + err[-4000:]
    return out, err


def newest(folder):
    "Step of the newest checkpoint, -1 for none."
    return max((int(f.stem.split('-')[1]) for f in checkpoints(folder)), default=-1)


def wait_for_step(folder, step, p, seconds=60 * ROOM):
    "Wait until a run has written the checkpoint of a step, or a later one."
    until = time.monotonic() + seconds
    while newest(folder) < step:
        assert p.poll() is None, p.communicate()
        assert time.monotonic() < until, f'no checkpoint of step {step} in {seconds} s'
        time.sleep(.02)


# ---- what a run has left ----

def record_of(folder): return json.loads((Path(folder) / 'record.json').read_text())


def one_line(err):
    "What a refused command says to stderr, which must be one line that begins with `error: `."
    line, = err.strip().splitlines()
    assert line.startswith('error: '), line
    return line


def same(a, b, steps):
    """Two finished runs in two folders are equal bit for bit.

    That is: weights, optimizer, chains, curve and all else that goes on from step to step.
    """
    for name in (checkpoints(a)[-1].name, 'model.safetensors'):
        same_checkpoint(Path(a) / name, Path(b) / name, steps)
    assert (Path(a) / 'curve.csv').read_bytes() == (Path(b) / 'curve.csv').read_bytes()
    one, other = record_of(a), record_of(b)
    for field in ('curve', 'steps', 'metrics', 'alarms'): assert one[field] == other[field], field


def same_checkpoint(one_file, other_file, steps):
    "Two files hold the same tensors and the same state of a run after so many steps."
    (one, one_state), (other, other_state) = load_checkpoint(one_file), load_checkpoint(other_file)
    assert set(one) == set(other)
    for tensor in one: assert torch.equal(one[tensor], other[tensor]), f'{one_file.name}: {tensor}'
    for field in ('step', 'curve', 'window', 'guard', 'best', 'alarms', 'optimizer'):
        assert one_state.get(field) == other_state.get(field), f'{one_file.name}: {field}'
    assert one_state['step'] == steps
