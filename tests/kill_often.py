"""A run in a child process that is killed with SIGKILL again and again and started again; at last it runs to its end.

  python tests/kill_often.py FOLDER KILLS SEED

FOLDER/whole is the run that nobody disturbs, FOLDER/killed the other. Prints, for each kill, the signal that the child
died of, the step of the newest checkpoint then, and whether a checkpoint was half written, as JSON. The children are
forked from this process, which has imported everything and computed nothing, so a start costs no more than the run's own.
A child that is to be killed waits near the end of the run, or in the middle of writing: no clock decides who is first.
"""
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

import jem_nb.train as training
from helpers import newest
from jem_nb.config import preset
from jem_nb.data import load

CFG = preset('digits', width=1, n_steps=3, batch_size=32, buffer_size=200, n_epochs=3, ckpt_every=3,
             precision='float32', channels_last=False)
STEPS, LAST = 117, 105  # LAST: where a child waits that is to be killed


def wait_at(step):
    "The child stops before this step until it is killed."
    plain = training.train_step

    def train_step(state, *rest):
        while state.step >= step: signal.pause()
        return plain(state, *rest)
    training.train_step = train_step


def wait_while_writing(step):
    "The child stops in the first checkpoint after this step, when it is written and not yet in its place."
    plain = os.replace

    def replace(source, target, *rest):
        name = Path(target).name
        if name.startswith('checkpoint-') and int(Path(name).stem.split('-')[1]) > step:
            while True: signal.pause()
        return plain(source, target, *rest)
    os.replace = replace


def child(folder, splits, prepare=lambda: None):
    "The process number of a child that trains in a folder."
    pid = os.fork()
    if pid: return pid
    status = 1
    try:
        prepare()
        training.train(CFG, folder, progress=False, splits=splits)
        status = 0
    except BaseException: traceback.print_exc()
    finally: os._exit(status)


def writing(folder): # the checkpoints that are half written
    return {e.name for e in os.scandir(folder) if e.name.startswith('.checkpoint-')} if folder.is_dir() else set()


def kill_often(folder, kills, draw, splits):
    "The list of kills."
    log = []
    for i in range(kills):
        step, left = max(newest(folder), 0), writing(folder)
        target = min(step + draw.choice([0, 3, 6, 9]), LAST)        # the checkpoint that is waited for
        middle = i % 4 == 3 and target < LAST                       # every fourth is killed while it writes the next one
        pid = child(folder, splits, lambda: wait_while_writing(target) if middle else wait_at(LAST + 1))
        until = time.monotonic() + 300
        while newest(folder) < target or (middle and not writing(folder) - left):
            assert time.monotonic() < until, f'kill {i}: no checkpoint of step {target}'
            time.sleep(.002)
        time.sleep(draw.uniform(0, .05))
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        log.append(dict(signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None, step=newest(folder),
                        half_written=bool(writing(folder) - left)))
    return log


def main(folder, kills, seed):
    torch.set_num_threads(1)
    splits = {s: load(CFG.dataset, s) for s in ('train', 'valid')}
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])          # what torch imports at the first optimizer, once for all children
    assert os.waitpid(child(folder / 'whole', splits), 0)[1] == 0
    log = kill_often(folder / 'killed', kills, random.Random(seed), splits)
    assert os.waitpid(child(folder / 'killed', splits), 0)[1] == 0
    print(json.dumps(log))


if __name__ == '__main__': main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
