"What 17_distributed refuses, and what it says."
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist

from jem_nb.distributed import Processes, agree_on_round, processes


@pytest.mark.parametrize('n, world', [(30, 4), (1, 2), (64, 3)])
def test_unequal_shares(n, world):
    message = f'batch_size={n} cannot be shared equally by {world} processes: make it a multiple'
    with pytest.raises(ValueError, match=message): Processes(0, world).share(n, 'batch_size')


def test_nobody_else_comes():
    message = 'process 0 of 3 waited 0.01 minutes'
    with pytest.raises(TimeoutError, match=message):
        agree_on_round(dist.HashStore(), 0, 3, minutes=.01)


def test_one_that_was_replaced():
    "Of two processes with one rank the earlier ends, and the later goes on with the others."
    store = dist.HashStore()

    def word(): return store.get('word/1') if store.check(['word/1']) else b''

    with ThreadPoolExecutor(2) as pool:
        earlier = pool.submit(agree_on_round, store, 1, 2)
        while not (first := word()): time.sleep(.01)
        later = pool.submit(agree_on_round, store, 1, 2)
        while word() == first: time.sleep(.01)
        assert agree_on_round(store, 0, 2) == later.result()
        with pytest.raises(RuntimeError, match='another process has taken rank 1'):
            earlier.result()


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '4')
    monkeypatch.setenv('LOCAL_RANK', '3')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    message = 'process 3 of this machine has no GPU of its own, there are 2: set --nproc-per-node'
    with pytest.raises(ValueError, match=message):
        with processes('cuda'): pass
