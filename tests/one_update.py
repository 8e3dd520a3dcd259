"""Updates of a network by train_step with chains that are given, alone or by several processes.

  python -m torch.distributed.run --standalone --nproc-per-node=2 tests/one_update.py FILE

writes {case: {weight: tensor}} of the first process. Each takes its part of the same chains.
"""
import sys

import torch

import jem_nb.step as step
from jem_nb.config import preset
from jem_nb.data import load
from jem_nb.distributed import processes

SGD = dict(
    precision='float32',
    channels_last=False,
    width=1,
    n_steps=1,
    batch_size=32,
    buffer_size=200,
    optimizer='sgd',
    beta1=0.,
    schedule='step',
    px_weight=1.,
    lr=1.,
)
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


def far_apart(a, b): return (a - b).abs().max().item()


def apart(p, **fields):
    "How far apart the weights of the processes are after three updates with chains of their own."
    cfg = preset('digits', **{**SGD, 'n_steps': 2, 'lr': .1, **fields})
    images = load('digits', 'train')
    state = step.start_state(cfg, images, p)
    start = {k: v.clone() for k, v in state.model.state_dict().items()}
    for _ in range(3): step.train_step(state, cfg, images, p)
    between = moved = 0.
    for name, v in state.model.state_dict().items():
        first, *others = p.gather(v)
        between = max([between, *(far_apart(t, first) for t in others)])
        moved = max(moved, far_apart(v, start[name]))
    return between, moved


if __name__ == '__main__':
    torch.set_num_threads(1)
    with processes('cpu') as p:
        made = {c: updated(c, p) for c in CASES}
        made['apart'] = {
            'float32': apart(p, precision='float32', channels_last=False),
            'bfloat16': apart(p, precision='bfloat16', channels_last=True),
        }
        if p.first: torch.save(made, sys.argv[1])
