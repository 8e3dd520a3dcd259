"""The n-th opening, writing, syncing, renaming or removing of a run fails, for every n.

Once, or from then on. The run raises what the disk said, or goes on where that is harmless; the
checkpoint that was last in place is still there; and the same call, on a disk that is well again,
goes on from it and ends bit for bit as the run that nobody disturbed.
"""
import builtins
import errno
import io
import os
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from jem_nb.checkpoint import checkpoints, load_checkpoint, newest_checkpoint
from jem_nb.data import load
from jem_nb.fitting import suggest
from jem_nb.train import train
from jem_nb.your_data import Splits
from jem_nb.your_network import OwnNetwork

STEPS, EVERY = 6, 2
HARMLESS = 'open', 'fsync', 'mkdir'
ON_PATHS = 'replace', 'rename', 'unlink', 'remove', 'chmod', 'mkdir', 'truncate'


class Disk:
    "A disk whose n-th operation in a folder fails; all of them are counted."
    def __init__(self, folder, n, lasting):
        self.folder, self.n, self.lasting = str(folder), n, lasting
        self.count, self.failed, self.saved = 0, None, []
        self.paths = {} # of open file descriptors

    def concerns(self, path): return str(self.paths.get(path, path)).startswith(self.folder)

    def operation(self, what, path):
        if not self.concerns(path): return
        self.count += 1
        if self.count == self.n or self.lasting and self.count > self.n:
            kind = 'folder' if os.path.isdir(self.paths.get(path, path)) else 'file'
            self.failed = self.failed or f'{what} {kind}'
            raise OSError(errno.ENOSPC, 'No space left on device', str(path))


class Told:
    "An open file that tells the disk of each write."
    def __init__(self, file, disk, path): self._file, self._disk, self._path = file, disk, path

    def __getattr__(self, name): return getattr(self._file, name)

    def __enter__(self): return self

    def __exit__(self, *how):
        self._disk.paths.pop(self._path, None)
        return self._file.__exit__(*how)

    def __iter__(self): return iter(self._file)

    def write(self, data):
        try: self._disk.operation('write', self._path)
        except OSError:
            self._file.write(data[:len(data) // 2]) # a part of it is on the disk
            raise
        return self._file.write(data)


def step_of(path):
    "[step] of a checkpoint's name, [] of another's."
    stem = os.path.basename(path).split('.')[0]
    return [int(stem.split('-')[1])] if stem.startswith('checkpoint-') else []


@contextmanager
def failing(folder, n, lasting=False):
    "Inside the block the n-th operation on a file of the folder fails."
    disk, before = Disk(folder, n, lasting), {}

    def replaced(module, name, new):
        before[module, name] = getattr(module, name)
        setattr(module, name, new)

    def opened(path, flags, *more, **how):
        disk.operation('open', path)
        fd = before[os, 'open'](path, flags, *more, **how)
        disk.paths[fd] = path
        return fd

    def opened_file(path, mode='r', *more, **how):
        ours = disk.concerns(path)
        if not isinstance(path, int): disk.operation('open', path)
        file = before[io, 'open'](path, mode, *more, **how)
        return Told(file, disk, path) if ours and set(mode) & set('wax+') else file

    def synced(fd):
        disk.operation('fsync', fd)
        return before[os, 'fsync'](fd)

    def on_path(name):
        def call(path, *more, **how):
            disk.operation(name, path)
            before[os, name](path, *more, **how)
            if name == 'replace': disk.saved += step_of(more[0])
        return call

    replaced(os, 'open', opened)
    replaced(os, 'fsync', synced)
    replaced(io, 'open', opened_file)
    replaced(builtins, 'open', opened_file)
    for name in ON_PATHS: replaced(os, name, on_path(name))
    try: yield disk
    finally:
        for (module, name), old in before.items(): setattr(module, name, old)


@pytest.fixture(scope='module')
def images():
    return Splits({split: load('digits', split).take(64) for split in ('train', 'valid')})


def run(images, folder):
    "A run of six steps and its weights."
    torch.manual_seed(0)
    net = OwnNetwork(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    cfg = suggest(images, batch_size=16, n_chains=8, n_epochs=2, max_iters=STEPS, px_delay=0,
                  px_ramp=0, n_steps=1, ckpt_every=EVERY, network='own', buffer_size=40)
    record = train(cfg, folder, progress=False, splits=images, model=net)
    return record, torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.fixture(scope='module')
def undisturbed(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole') / 'run'
    with failing(folder, 0) as disk: record, weights = run(images, folder)
    assert record['steps'] == STEPS and disk.count > 30
    return weights, disk.count


def disturbed(images, folder, n, lasting):
    "What failed, and whether the run ended; afterwards every checkpoint in place is whole."
    ended = False
    with failing(folder, n, lasting) as disk:
        try: ended = run(images, folder)[0]['status'] in ('complete', 'truncated')
        except OSError as e: assert 'No space left' in str(e)
    assert disk.failed
    for f in checkpoints(folder): load_checkpoint(f)
    there = newest_checkpoint(folder) if folder.is_dir() else None
    assert (there[1]['step'] if there else None) == max(disk.saved, default=None)
    return disk.failed, ended, max(disk.saved, default=0)


@pytest.mark.parametrize('lasting', (False, True), ids=('once', 'from then on'))
def test_every_operation(images, undisturbed, tmp_path, lasting):
    weights, count = undisturbed
    outcomes = []
    for n in range(1, count + 1):
        folder = tmp_path / f'{n}' / 'run'
        outcomes.append(disturbed(images, folder, n, lasting))
        _, ended, step = outcomes[-1]
        record, again = run(images, folder)
        assert record['steps'] == STEPS, n
        if not ended and step < STEPS: assert record['restarts'] == [step] * (step > 0), n
        assert torch.equal(again, weights), (n, outcomes[-1])
    stopped = {what for what, ended, _ in outcomes if not ended}
    assert stopped >= {'open file', 'write file', 'fsync file', 'replace file'}
    # a folder that cannot be synced, or is there already, is no reason to stop
    assert {what for what, ended, _ in outcomes if ended} <= {f'{w} folder' for w in HARMLESS}
