"""Updates of a network by train_step with given chains, alone or as one process of torchrun.

  python -m torch.distributed.run --standalone --nproc-per-node=2 tests/one_update.py FILE

writes {case: {weight: tensor}} of the first process. Each process takes its part of the same
chains.
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
CASES = {  # changes to SGD, and how many updates
    'plain': (dict(), 1),
    'separate_batches': (dict(separate_batches=True), 1),
    'balance': (dict(balance=True, px_weight=50.), 1),
    'uphill': (dict(sam_radius=.2, sam_form='adaptive'), 1),
    'baseline': (dict(px_weight=0., lr=.1), 5),
    'matched': (dict(px_weight=0., match_weight=1., match_cond=.5, activation='silu'), 3),
    'matched with chains': (dict(match_weight=1., activation='silu'), 1),
}


def copy_of_weights(net): return {name: t.clone() for name, t in net.state_dict().items()}


def updated(case, p):
    "The weights after the updates of a case, and the numbers of the last one."
    fields, updates = CASES[case]
    cfg, images = preset('digits', **{**SGD, **fields}), load('digits', 'train')
    generator = torch.Generator().manual_seed(0)
    chains = torch.rand(32, *images.x.shape[1:], generator=generator) * 2 - 1
    mine = chains[p.share(32, 'chains')]
    own_walk_chains = step.walk_chains

    def given_chains(*_): return mine, None, torch.arange(32 // p.world)

    step.walk_chains = given_chains
    try:
        state = step.start_state(cfg, images, p)
        for _ in range(updates): numbers = step.train_step(state, cfg, images, p)
    finally: step.walk_chains = own_walk_chains
    assert state.step == updates
    return copy_of_weights(state.model.model), numbers


def apart(p, **fields):
    """Three updates with chains of each process's own.

    Returns how far apart the weights of the processes are then, and how far they have moved.
    """
    cfg = preset('digits', **{**SGD, 'n_steps': 2, 'lr': .1, **fields})
    images = load('digits', 'train')
    state = step.start_state(cfg, images, p)
    start = copy_of_weights(state.model)
    for _ in range(3): step.train_step(state, cfg, images, p)
    between, moved = [], []
    for name, weight in state.model.state_dict().items():
        moved.append((weight - start[name]).abs().max().item())
        first, *others = p.gather(weight)
        between += [(other - first).abs().max().item() for other in others]
    return max(between, default=0.), max(moved)


if __name__ == '__main__':
    torch.set_num_threads(1)
    with processes('cpu') as p:
        made = {case: updated(case, p) for case in CASES}
        made['apart'] = {
            'float32': apart(p, precision='float32', channels_last=False),
            'bfloat16': apart(p, precision='bfloat16', channels_last=True),
        }
        if p.first: torch.save(made, sys.argv[1])
