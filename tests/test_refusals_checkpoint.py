"What 16_checkpoint refuses, and what it says."
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import save_file

from jem_nb.checkpoint import (
    CheckpointError,
    atomic_write,
    load_checkpoint,
    newest_checkpoint,
    read_released,
    save_checkpoint,
)
from jem_nb.wrn import WideResNet


def half(file): file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])


def empty(file): file.write_bytes(b'')


def one_bit(file): # of one weight
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def newer(file): file.write_bytes(file.read_bytes().replace(b'"format":"1"', b'"format":"9"'))


def foreign(file): save_file({'w': torch.zeros(2)}, file)


DAMAGE = {
    'half of it': (half, 'truncated or corrupt'),
    'empty': (empty, '0 bytes'),
    'one bit': (one_bit, 'checksum'),
    'a newer format': (newer, 'newer'),
    'another program': (foreign, 'did not write'),
}


@pytest.fixture
def checkpoint(tmp_path):
    state = {'w': torch.randn(4, 3), 'n': torch.tensor(7)}
    return save_checkpoint(tmp_path/'checkpoint-00000012.safetensors', state, dict(step=12))


@pytest.mark.parametrize('case', DAMAGE)
def test_damage(case, checkpoint):
    damage, message = DAMAGE[case]
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=message) as e: load_checkpoint(checkpoint)
    assert str(e.value).startswith(f'{checkpoint} cannot be used: ')


def test_absent(tmp_path):
    with pytest.raises(FileNotFoundError, match='train first'): load_checkpoint(tmp_path/'absent')


def test_none_can_be_used(checkpoint):
    said = []
    empty(checkpoint)
    with pytest.raises(CheckpointError, match='none of the 1 checkpoints.+start anew'):
        newest_checkpoint(checkpoint.parent, say=said.append)
    assert len(said) == 1 and said[0].startswith('passed over: ')


def test_full_disk(checkpoint):
    "The state that was there survives, and no temporary file is left."
    before = checkpoint.read_bytes()
    with patch('os.fsync', side_effect=OSError('no space left on device')):
        with pytest.raises(OSError, match='no space left'): atomic_write(checkpoint, b'new')
    assert checkpoint.read_bytes() == before
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


def test_what_json_cannot_hold(checkpoint):
    before = checkpoint.read_bytes()
    with pytest.raises(TypeError, match='not JSON serializable'):
        save_checkpoint(checkpoint, {}, dict(step=object()))
    assert checkpoint.read_bytes() == before


class Trap:
    "A pickle of it prints when it is opened as pickles usually are."
    def __reduce__(self): return print, ('this must never run',)


def as_released(): # the state of a network by the names of the paper's code
    theirs = {
        'f.linear.weight': torch.zeros(10, 64),
        'f.linear.bias': torch.zeros(10),
        'energy_output.weight': torch.zeros(1, 64),
        'energy_output.bias': torch.zeros(1),
    }
    for name, v in WideResNet(10, 1, n_classes=3).state_dict().items():
        theirs[name if name.startswith('class_output') else f'f.{name}'] = v
    return theirs


def one_missing(theirs): return {k: theirs[k] for k in theirs if k != 'f.conv1.weight'}


RELEASED = {
    'code in it': (lambda s: {'model_state_dict': s, 'more': Trap()}, 'could run code'),
    'a weight is missing': (one_missing, 'is missing'),
    'a list': (lambda s: [1, 2], 'holds a list'),
}


@pytest.mark.parametrize('case', RELEASED)
def test_released(case, tmp_path, capsys):
    make, message = RELEASED[case]
    torch.save(make(as_released()), tmp_path/'model.pt')
    with pytest.raises(CheckpointError, match=message): read_released(tmp_path/'model.pt')
    assert 'never' not in capsys.readouterr().out


def test_half_of_a_released_file(tmp_path):
    file = tmp_path/'model.pt'
    torch.save({'model_state_dict': as_released()}, file)
    read_released(file)
    half(file)
    with pytest.raises(CheckpointError, match='damaged'): read_released(file)


def test_no_released_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='links its checkpoint'):
        read_released(tmp_path/'none.pt')
