"""Updates of a network by train_step with chains that are given, alone or as one of the processes of torchrun.

  python -m torch.distributed.run --standalone --nproc-per-node=2 tests/one_update.py FILE

writes {case: {weight: tensor}} of the first process. Each process takes its part of the same chains.
"""
import sys

import torch

import jem_nb.step as step
from jem_nb.config import preset
from jem_nb.data import load
from jem_nb.distributed import processes

SGD = dict(precision='float32', channels_last=False, width=1, n_steps=1, batch_size=32, buffer_size=200, optimizer='sgd', beta1=0., schedule='step', px_weight=1., lr=1.)
CASES = { # changes to SGD, and how many updates
    'plain': (dict(), 1),
    'separate_batches': (dict(separate_batches=True), 1),
    'balance': (dict(balance=True, px_weight=50.), 1),
    'baseline': (dict(px_weight=0., lr=.1), 5),
}


def updated(case, p):
    "The weights after the updates of a case, and the numbers of the last one."
    fields, updates = CASES[case]
    cfg, images = preset('digits', **{**SGD, **fields}), load('digits', 'train')
    chains = torch.rand(32, *images.x.shape[1:], generator=torch.Generator().manual_seed(0)) * 2 - 1
    mine, old = p.share(32, 'chains'), step.walk_chains
    step.walk_chains = lambda *a: (chains[mine], None, torch.arange(32 // p.world))
    try:
        state = step.start_state(cfg, images, p)
        for _ in range(updates): numbers = step.train_step(state, cfg, images, p)
    finally: step.walk_chains = old
    assert state.step == updates
    return {k: v.clone() for k, v in state.model.model.state_dict().items()}, numbers


def apart(p, **fields):
    "How far apart the weights of the processes are after three updates with chains of their own."
    cfg, images = preset('digits', **{**SGD, 'n_steps': 2, 'lr': .1, **fields}), load('digits', 'train')
    state = step.start_state(cfg, images, p)
    start = {k: v.clone() for k, v in state.model.state_dict().items()}
    for _ in range(3): step.train_step(state, cfg, images, p)
    moved = max((v - start[k]).abs().max().item() for k, v in state.model.state_dict().items())
    return max((t - ts[0]).abs().max().item() for v in state.model.state_dict().values() for ts in [p.gather(v)] for t in ts), moved


if __name__ == '__main__':
    torch.set_num_threads(1)
    with processes('cpu') as p:
        made = {c: updated(c, p) for c in CASES}
        made['apart'] = {w: apart(p, precision=w, channels_last=w == 'bfloat16') for w in ('float32', 'bfloat16')}
        if p.first: torch.save(made, sys.argv[1])
