"17_distributed: what processes tell each other, and the memory that goes back to the system."
import os
import subprocess
import sys

import pytest
import torch

from helpers import TWO, finish, start
from jem_nb import distributed
from jem_nb.distributed import Processes, agree_on_round, processes

TALK = '''
import torch
from jem_nb.distributed import processes
with processes('cpu') as p:
    assert p.world == 2 and p.first == (p.rank == 0)
    assert p.mean_(torch.tensor([float(p.rank), 4.])).tolist() == [.5, 4.]
    assert [t.tolist() for t in p.gather(torch.tensor([p.rank, 7]))] == [[0, 7], [1, 7]]
    assert p.same({'said by': p.rank}) == {'said by': 0}
    assert p.any(p.rank == 1) and not p.any(False)
    p.wait()
assert not torch.distributed.is_initialized()
'''


def test_two_that_talk(tmp_path):
    (tmp_path/'talk.py').write_text(TALK)
    finish(start(*TWO, tmp_path/'talk.py'))


def test_one_alone(monkeypatch):
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    t = torch.arange(3.)
    with processes('cpu') as alone:
        assert alone == Processes() and alone.first
        assert alone.mean_(t) is t and alone.gather(t)[0] is t
        assert alone.same('x') == 'x'
        assert alone.any(True) and not alone.any(False)
        alone.wait()


def test_shares():
    parts = [Processes(r, 4).share(64, 'batch_size') for r in range(4)]
    assert parts == [slice(0, 16), slice(16, 32), slice(32, 48), slice(48, 64)]


def test_old_name(): assert distributed.meet is agree_on_round


MEMORY = '''
import torch
from jem_nb.distributed import give_back_memory, keep_memory
def held(): # megabytes of this process
    with open('/proc/self/status') as f:
        line = next(x for x in f if x.startswith('VmRSS'))
    return int(line.split()[1]) / 1024
kept = keep_memory()
before = held()
torch.ones(50_000_000).sum()
left = held() - before
give_back_memory()
print(int(kept), left, held() - before)
'''


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='glibc only')
def test_memory_that_goes_back():
    "What a tensor of 200 MB leaves behind, and what is left when it is given back."
    env = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_')}
    said = subprocess.check_output([sys.executable, '-c', MEMORY], env=env, text=True)
    kept, left, rest = map(float, said.split())
    assert not kept or rest <= left + 1


def test_settings_of_the_user_stay(monkeypatch):
    monkeypatch.setenv('MALLOC_TRIM_THRESHOLD_', '1000000')
    assert not distributed.keep_memory()
