"""A run that is killed with SIGKILL and started again, many times; at last it runs to its end.

  python tests/kill_often.py FOLDER KILLS SEED

FOLDER/whole is the run that nobody disturbs, FOLDER/killed the other. Prints, for each kill, the
signal that the child died of, the step of the newest checkpoint then, and whether a checkpoint
was half written, as JSON. The children are forked from this process, which has imported everything
and computed nothing, so that a start costs little. A child that is to be killed waits near the end
of the run, or in the middle of writing: no clock decides who is first.
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

CFG = preset(
    'digits', width=1, n_steps=3, batch_size=32, buffer_size=200, n_epochs=3, ckpt_every=3,
    precision='float32', channels_last=False,
)
LAST = 105  # of 117 steps; where a child waits that is to be killed


def wait_at(step):
    "The child stops before this step until it is killed."
    plain = training.train_step

    def train_step(state, *rest):
        while state.step >= step: signal.pause()
        return plain(state, *rest)
    training.train_step = train_step


def wait_while_writing(step):
    "The child stops in the next checkpoint after this step, written but not yet in its place."
    plain = os.replace

    def replace(source, target, *rest):
        name = Path(target).name
        is_checkpoint = name.startswith('checkpoint-')
        if is_checkpoint and int(Path(name).stem.split('-')[1]) > step:
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


def half_written(folder):
    "The names of the checkpoints that are half written."
    if not folder.is_dir(): return set()
    return {e.name for e in os.scandir(folder) if e.name.startswith('.checkpoint-')}


def kill_one(folder, target, in_the_middle, draw, splits):
    """Start a child and kill it when the checkpoint of step `target` is there.

    `in_the_middle`: only when it has begun to write the one after that.
    """
    left = half_written(folder)

    def prepare():
        if in_the_middle: wait_while_writing(target)
        else: wait_at(LAST + 1)

    pid, until = child(folder, splits, prepare), time.monotonic() + 300
    while newest(folder) < target or (in_the_middle and not half_written(folder) - left):
        assert time.monotonic() < until, f'no checkpoint of step {target}'
        time.sleep(.002)
    time.sleep(draw.uniform(0, .05))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return dict(
        signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        step=newest(folder),
        half_written=bool(half_written(folder) - left),
    )


def kill_often(folder, kills, draw, splits):
    "What is printed of each kill; every fourth comes while a checkpoint is being written."
    log = []
    for i in range(kills):
        step = max(newest(folder), 0)
        target = min(step + draw.choice([0, 3, 6, 9]), LAST)
        log.append(kill_one(folder, target, i % 4 == 3 and target < LAST, draw, splits))
    return log


def main(folder, kills, seed):
    torch.set_num_threads(1)
    splits = {s: load(CFG.dataset, s) for s in ('train', 'valid')}
    # What torch imports at the first optimizer is imported here, once for all children.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    assert os.waitpid(child(folder / 'whole', splits), 0)[1] == 0
    log = kill_often(folder / 'killed', kills, random.Random(seed), splits)
    assert os.waitpid(child(folder / 'killed', splits), 0)[1] == 0
    print(json.dumps(log))


if __name__ == '__main__': main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
