"16_checkpoint: an optimizer that is put back goes on to the last bit; a folder has an order."
import json

import pytest
import torch
from torch import nn

from jem_nb.checkpoint import (
    checkpoints,
    newest_checkpoint,
    pack_optimizer,
    prune_checkpoints,
    save_checkpoint,
    unpack_optimizer,
)

OPTIMIZERS = {
    'adam': lambda net: torch.optim.Adam(net.parameters(), lr=.1),
    'sgd with momentum': lambda net: torch.optim.SGD(net.parameters(), lr=.1, momentum=.9),
}


def fresh(make):
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    return net, make(net)


def three_steps(net, opt): # the weights after them
    for i in range(3):
        opt.zero_grad()
        net(torch.ones(2, 3) * (i + 1)).square().sum().backward()
        opt.step()
    return net.weight.detach().clone()


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_optimizer(name):
    "With its state the steps are the same; with the weights alone they are others."
    net, opt = fresh(OPTIMIZERS[name])
    resumed, its_opt = fresh(OPTIMIZERS[name])
    forgetful, new_opt = fresh(OPTIMIZERS[name])
    three_steps(net, opt)
    for other in (resumed, forgetful): other.load_state_dict(net.state_dict())
    tensors, meta = pack_optimizer(opt)
    tensors['model.weight'] = torch.zeros(1)                       # other names are ignored
    unpack_optimizer(its_opt, tensors, json.loads(json.dumps(meta)))
    went_on = three_steps(net, opt)
    assert torch.equal(three_steps(resumed, its_opt), went_on)
    assert not torch.equal(three_steps(forgetful, new_opt), went_on)


def test_packed_state_is_a_copy():
    net, opt = fresh(OPTIMIZERS['adam'])
    three_steps(net, opt)
    tensors, _ = pack_optimizer(opt)
    before = {k: v.clone() for k, v in tensors.items()}
    three_steps(net, opt)
    for k in before: assert torch.equal(tensors[k], before[k])


def test_folder(tmp_path):
    assert newest_checkpoint(tmp_path) is None and checkpoints(tmp_path) == []
    for step in (1000, 100, 200):
        file = tmp_path/f'checkpoint-{step:08d}.safetensors'
        save_checkpoint(file, {'w': torch.zeros(1)}, dict(step=step))
    assert newest_checkpoint(tmp_path)[1]['step'] == 1000
    prune_checkpoints(tmp_path, 2)
    assert [f.stem for f in checkpoints(tmp_path)] == ['checkpoint-00000200', 'checkpoint-00001000']
