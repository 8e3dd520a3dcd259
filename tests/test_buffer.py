"What 03_buffer promises beside its ideas: fair draws, exact restarts, parts that make the whole."
import math

import pytest
import torch

from jem_nb.buffer import ReplayBuffer, join_shards, normal_init, take_shard, uniform_init


def seeded(seed=0): return torch.Generator().manual_seed(seed)


def test_uniform_start():
    x = uniform_init(1000, (1, 8, 8), seeded())
    assert x.shape == (1000, 1, 8, 8) and x.min() >= -1 and x.max() <= 1
    assert abs(x.mean()) < 4 * (1/3 / x.numel())**.5  # the variance of U(-1,1) is 1/3


def test_what_is_drawn_is_a_copy():
    buffer = ReplayBuffer(50, (1, 2, 2), seeded(), reinit_prob=0.)
    before = buffer.x.clone()
    x, idx = buffer.sample(8, seeded(1))
    assert torch.equal(x, before[idx])
    x.add_(1)
    assert torch.equal(buffer.x, before)


def test_only_what_was_drawn_is_written():
    "Images as states; where a slot was drawn twice, the later one."
    buffer = ReplayBuffer(50, (1, 2, 2), seeded(), reinit_prob=0.)
    before = buffer.x.clone()
    idx = buffer.sample(30, seeded(1))[1]
    assert len(idx.unique()) < 30
    marks = torch.arange(30.).view(30, 1, 1, 1).expand(30, 1, 2, 2) + 10
    buffer.update_(idx, marks)
    for slot in range(50):
        drawn = [j for j in range(30) if idx[j] == slot]
        assert torch.equal(buffer.x[slot], marks[drawn[-1]] if drawn else before[slot])


def test_every_slot_is_drawn_equally_often():
    buffer, generator = ReplayBuffer(50, (1,), seeded()), seeded(1)
    draws = torch.cat([buffer.sample(64, generator)[1] for _ in range(1000)])
    count, expected = torch.bincount(draws, minlength=50), len(draws) / 50
    assert len(count) == 50
    assert ((count - expected).abs() < 4.5 * expected**.5).all()


def recognizable(n, shape, generator, y=None): return torch.full((n, *shape), 9.)


def rate_of_restarts(rho, n=64, times=200):
    buffer, generator = ReplayBuffer(1000, (1,), seeded(), reinit_prob=rho), seeded(1)
    buffer.init = recognizable
    drawn = torch.cat([buffer.sample(n, generator)[0] for _ in range(times)])
    return drawn.eq(9.).float().mean().item()


@pytest.mark.parametrize('rho', [0., 1.])
def test_restarts_at_the_ends_are_exact(rho): assert rate_of_restarts(rho) == rho


def test_restarts_come_at_their_rate():
    assert abs(rate_of_restarts(.05) - .05) < 4 * math.sqrt(.05 * .95 / (64 * 200))


def test_only_those_that_restart_are_prepared():
    "What restarts goes through `prepare`, with its class; what goes on does not."
    seen = []

    def prepare(x, y):
        seen.append((x.clone(), y.clone()))
        return x + 100

    buffer = ReplayBuffer(100, (2,), seeded(), .3, k=4)
    y = torch.arange(40) % 4
    plain, slots = buffer.sample(40, seeded(1), y)
    found, same = buffer.sample(40, seeded(1), y, prepare)
    fresh = (plain != buffer.x[slots]).any(1)
    assert 0 < fresh.sum() < 40 and torch.equal(slots, same) and len(seen) == 1
    assert torch.equal(found, plain + 100 * fresh[:, None])
    assert torch.equal(seen[0][0], plain[fresh]) and torch.equal(seen[0][1], y[fresh])


def test_normal_start():
    x = normal_init(5000, (3,), seeded())
    assert x.shape == (5000, 3) and abs(x.mean()) < .05 and abs(x.std() - 1) < .05


def test_blocks_are_equal():
    buffer = ReplayBuffer(100, (1,), seeded(), k=10)
    assert buffer.slot_class(torch.arange(100)).bincount().tolist() == [10] * 10


@pytest.mark.parametrize('world', [1, 2, 4])
@pytest.mark.parametrize('k', [0, 5])
def test_parts_make_the_whole(k, world):
    whole = torch.arange(120.).view(60, 2)
    parts = [take_shard(whole, k, rank, world) for rank in range(world)]
    assert torch.equal(join_shards(parts, k), whole)
    assert {len(part) for part in parts} == {60 // world}


def test_each_part_holds_every_class_in_order():
    classes = torch.arange(60) * 5 // 60
    assert torch.equal(take_shard(classes, 5, 1, 2), torch.arange(5).repeat_interleave(6))
