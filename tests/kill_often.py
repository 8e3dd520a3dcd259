"""A run in a child process that is killed with SIGKILL at random moments and started again; at last it runs to its end.

  python tests/kill_often.py FOLDER KILLS SEED

FOLDER/whole is the run that nobody disturbs, FOLDER/killed the other. Prints, for each kill, the signal that the child
died of, the step of the newest checkpoint then, and whether a checkpoint was half written, as JSON. The children are
forked from this process, which has imported everything and computed nothing, so a start costs no more than the run's own.
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

from helpers import newest
from jem_nb.config import preset
from jem_nb.data import load
from jem_nb.train import train

CFG = preset('digits', width=1, n_steps=3, batch_size=32, buffer_size=200, n_epochs=3, ckpt_every=3)
STEPS = 117


def child(folder, splits):
    "The process number of a child that trains in a folder."
    pid = os.fork()
    if pid: return pid
    status = 1
    try: train(CFG, folder, progress=False, splits=splits); status = 0
    except BaseException: traceback.print_exc()
    finally: os._exit(status)


def writing(folder): # the checkpoints that are half written
    return {e.name for e in os.scandir(folder) if e.name.startswith('.checkpoint-')} if folder.is_dir() else set()


def kill_often(folder, kills, draw, splits, speed):
    "The list of kills. `speed` is in steps a second, the highest so far."
    log = []
    for i in range(kills):
        step, left = newest(folder), writing(folder)
        rest = (STEPS - max(step, 0)) / speed                      # seconds to the end, at the highest speed
        moment = draw.uniform(0, .05 if i < 2 else 1.5 * rest / (kills - i + 1))
        pid, t0 = child(folder, splits), time.monotonic()
        time.sleep(moment)
        while i % 4 == 3 and writing(folder) == left and time.monotonic() < t0 + 20: pass  # every fourth goes on to the next write
        seconds = time.monotonic() - t0
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        now = newest(folder)
        speed = max(speed, (now - max(step, 0)) / seconds)
        log.append(dict(signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None, step=now, half_written=writing(folder) != left))
    return log


def main(folder, kills, seed):
    torch.set_num_threads(1)
    splits = {s: load(CFG.dataset, s) for s in ('train', 'valid')}
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])          # what torch imports at the first optimizer, once for all children
    t0 = time.monotonic()
    assert os.waitpid(child(folder / 'whole', splits), 0)[1] == 0
    log = kill_often(folder / 'killed', kills, random.Random(seed), splits, STEPS / (time.monotonic() - t0))
    assert os.waitpid(child(folder / 'killed', splits), 0)[1] == 0
    print(json.dumps(log))


if __name__ == '__main__': main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
