"What 18_step promises beyond its page: options against plain forms, streams of random numbers."
import copy
import dataclasses

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from jem_nb.config import model_config, preset, rng
from jem_nb.data import load
from jem_nb.distributed import Processes
from jem_nb.sgld import sgld
from jem_nb.wrn import CifarResNet, ResNet110
from jem_nb.step import (architecture, batch_indices, build_model, chain_starts,
    endless_indices, eval_model,
    backward_, batch_logits, draw_batch, labelled_indices, path_batch, real_batch, reason_to_stop,
    settled, sharpen_, start_chains_, start_state, train_step, walk_chains)

CFG = preset('digits', width=1, lr=3e-3, batch_size=32, n_steps=5, n_epochs=4, buffer_size=200,
             ckpt_every=10, precision='float32', channels_last=False)


@pytest.fixture(scope='module')
def images(): return load('digits', 'train')


def changed(**fields): return dataclasses.replace(CFG, **fields)
def weights(model): return torch.cat([q.detach().flatten() for q in model.parameters()])


def stepped(cfg, images, n=1):
    "The state after n steps, and the numbers of the last one."
    state = start_state(cfg, images)
    for _ in range(n): numbers = train_step(state, cfg, images)
    return state, numbers


# ---- the gradient from uphill ----

UPHILL = dict(optimizer='sgd', lr=1., beta1=0., sam_radius=.3)

def test_uphill_relative_to_each_weight(images):
    "The adaptive form by hand: a weight moves by its square times its gradient, over one norm."
    cfg = dataclasses.replace(model_config(changed(**UPHILL), 'baseline'),
                              sam_radius=2., sam_form='adaptive')
    plain = dataclasses.replace(cfg, sam_radius=0.)
    first = start_state(plain, images)
    theta = [q.detach().clone() for q in first.model.parameters()]
    train_step(first, plain, images)
    g = [q.grad.clone() for q in first.model.parameters()]
    norm = torch.cat([(t * v).flatten() for t, v in zip(theta, g)]).norm()
    there = start_state(plain, images)
    with torch.no_grad():
        for q, t, v in zip(there.model.parameters(), theta, g): q += 2 * t**2 * v / norm
    train_step(there, plain, images)
    by_hand = torch.cat([q.grad.flatten() for q in there.model.parameters()])
    state = start_state(cfg, images)
    before = weights(state.model)
    train_step(state, cfg, images)
    assert_close(before - weights(state.model), by_hand, rtol=1e-3, atol=1e-5)
    assert (by_hand - torch.cat([v.flatten() for v in g])).norm() > 1e-2


@pytest.mark.parametrize('norm', ['none', 'batch'])
def test_uphill_and_back(images, norm):
    "The weights return bit for bit; batch norm's running statistics count the images once."
    cfg, p = changed(norm=norm, **UPHILL), Processes()
    state = start_state(cfg, images)
    state.model.train()
    batch = draw_batch(state, cfg, images, p)
    backward_(state, cfg, batch_logits(state, cfg, batch, p), batch, p)
    before = {k: v.clone() for k, v in state.model.state_dict().items()}
    first = [q.grad.clone() for q in state.model.parameters()]
    assert sharpen_(state, cfg, batch, p)[0].isfinite()
    for k, v in state.model.state_dict().items(): assert torch.equal(v, before[k]), k
    assert any((q.grad - g).norm() > 1e-3 for q, g in zip(state.model.parameters(), first))
    if norm == 'batch': # and they do count the images: one pass has been made
        assert any('running_mean' in k and v.abs().sum() > 0 for k, v in before.items())


@pytest.mark.parametrize('fields', [
    pytest.param(dict(), id='chains'),
    pytest.param(dict(balance=True, px_weight=50.), id='balance'),
    pytest.param(dict(slope_weight=1., slope_of='logits'), id='slope'),
    pytest.param(dict(match_weight=1., activation='silu'), id='matched'),
    pytest.param(dict(norm='batch', norm_stats='running'), id='running statistics'),
    pytest.param(dict(dropout=.2), id='dropout'),
    pytest.param(dict(precision='bfloat16'), id='bfloat16'),
])
def test_uphill_in_every_recipe(images, fields):
    "On one batch with its chains: the gradient at weights that were moved by hand."
    cfg, p = dataclasses.replace(changed(**UPHILL), **fields), Processes()
    found = []
    for by_hand in (False, True):
        state = start_state(cfg, images)
        state.model.train()
        batch = draw_batch(state, cfg, images, p)
        backward_(state, cfg, batch_logits(state, cfg, batch, p), batch, p)
        params = list(state.model.parameters())
        g = [q.grad.clone() for q in params]
        if by_hand:
            length = torch.cat([v.flatten() for v in g]).norm()
            with torch.no_grad():
                for q, v in zip(params, g): q += .3 * v / length
            backward_(state, cfg, batch_logits(state, cfg, batch, p), batch, p)
        else: sharpen_(state, cfg, batch, p)
        found.append(torch.cat([q.grad.flatten() for q in params]))
    assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)
    assert (found[0] - torch.cat([v.flatten() for v in g])).norm() > 1e-3


@pytest.mark.parametrize('value', [float('nan'), 1e9])
def test_a_loss_uphill_that_is_not_sound_stops_a_run(value):
    assert 'loss_uphill' in reason_to_stop(dict(loss=1., loss_uphill=value))


def test_a_loss_uphill_that_is_not_finite_is_not_applied(images):
    cfg = changed(**UPHILL | dict(sam_radius=1e30))
    state = start_state(cfg, images)
    before = weights(state.model)
    numbers = train_step(state, cfg, images)
    assert 'uphill' in reason_to_stop(numbers)
    assert torch.equal(weights(state.model), before)


# ---- the slope ----

@pytest.mark.parametrize('balance', [False, True])
@pytest.mark.parametrize('of', ['energy', 'logits'])
def test_the_slope_stands_beside_the_other_terms(images, of, balance):
    "One step of SGD with rate 1: the weights move by the slope's own gradient more."
    cfg = changed(optimizer='sgd', lr=1., beta1=0., balance=balance, slope_of=of)
    moves = []
    for weight in (0., 10., 20.):
        state = start_state(dataclasses.replace(cfg, slope_weight=weight), images)
        before = weights(state.model)
        numbers = train_step(state, dataclasses.replace(cfg, slope_weight=weight), images)
        moves.append(weights(state.model) - before)
    assert numbers['slope'] > 0
    if not balance: # which depends on the gradient of all terms without chains
        assert_close(moves[2] - moves[0], 2 * (moves[1] - moves[0]), rtol=1e-3, atol=1e-5)
    assert (moves[1] - moves[0]).norm() > 1e-4


def test_directions_are_of_the_step(images):
    cfg = dataclasses.replace(model_config(CFG, 'baseline'), slope_weight=.1, slope_of='logits')
    state = start_state(cfg, images)
    first, again = (draw_batch(state, cfg, images, Processes()).directions for _ in range(2))
    assert torch.equal(first, again) and first.shape == (32, 10)
    assert_close(first.norm(dim=1), torch.ones(32))
    state.step = 1
    assert not torch.equal(first, draw_batch(state, cfg, images, Processes()).directions)


# ---- the network ----

def test_a_network_of_another_kind(images):
    "ResNet-110 as its class builds it, with the weights of the seed; a Wide ResNet is unchanged."
    cfg = model_config(CFG, 'resnet110')
    net = build_model(architecture(cfg, images), 3).model
    assert isinstance(net, CifarResNet) and len(net.blocks) == 54
    first = rng(3, 'weights').initial_seed()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(first)
        same = ResNet110(channels=1, image_size=8)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), same.parameters()))
    assert 'network' not in architecture(CFG, images)

def test_global_random_state(images):
    "Building a network leaves torch's own random numbers where they were."
    before = torch.get_rng_state()
    build_model(architecture(CFG, images), 0)
    assert torch.equal(before, torch.get_rng_state())


def test_settled_is_left_alone():
    here = settled(preset('digits'))
    assert settled(here) is here and settled(CFG) is CFG # nothing is left to choose


# ---- real images ----

def test_orders_differ():
    "The two terms of the loss draw in orders of their own."
    assert not torch.equal(batch_indices(0, 100, 32, 0), batch_indices(0, 100, 32, 0, 'labelled'))


def test_real_batch(images):
    "A batch is a function of the step; shares of it are the batch; a second try has other noise."
    def drawn(**how): return real_batch(CFG, images, 7, 'data', 'cpu', **how)[0]
    assert torch.equal(drawn(), drawn())
    halves = [drawn(part=s) for s in (slice(0, 16), slice(16, 32))]
    assert torch.equal(torch.cat(halves), drawn())
    assert not torch.equal(drawn(again=(1,)), drawn())


def test_cropped(images):
    "With pad the images are moved, not only noised."
    x, _ = real_batch(changed(data_noise=.05, pad=1), images, 0, 'data', 'cpu')
    plain, _ = real_batch(changed(data_noise=0.), images, 0, 'data', 'cpu')
    assert (x - plain).std() > .2


def test_few_labels(images):
    "A batch of 32 from 20 labels: no waiting, no favourite."
    cfg = changed(separate_batches=True, labels_per_class=2)
    kept = labelled_indices(cfg, images)
    assert images.y[kept].tolist() == [c for c in range(10) for _ in range(2)]
    seen = torch.cat([kept[endless_indices(i, len(kept), 32, 0)] for i in range(5)])
    assert len(seen) == 160 and seen.bincount(minlength=1257)[kept].tolist() == [8] * 20
    _, y = real_batch(cfg, images, 3, 'labelled', 'cpu', labelled=kept)
    assert set(y.tolist()) <= set(range(10))


# ---- chains ----

@pytest.mark.parametrize('init', ['informative', 'mixed'])
def test_starts_see_no_hidden_label(images, init):
    "With few labels the Gaussians of a start are fitted to the labelled images alone."
    cfg = changed(separate_batches=True, labels_per_class=4, init=init)
    kept = labelled_indices(cfg, images)
    hidden = torch.full_like(images.y, -1)
    hidden[kept] = images.y[kept]
    def starts(y): # of fifty chains, where these labels are at hand
        start = chain_starts(cfg, dataclasses.replace(images, y=y))
        return start(50, images.x.shape[1:], rng(0, 'starts'))
    assert torch.equal(starts(images.y), starts(hidden))


def test_log_p_x_sees_plain_images(images):
    "With px_augment=False cross-entropy alone sees noise, in a baseline too."
    cfg = changed(separate_batches=True, px_augment=False)
    batch = draw_batch(start_state(cfg, images), cfg, images, Processes())
    idx = batch_indices(0, len(images), 32, cfg.seed)
    assert torch.equal(batch.x_data, images.take(idx).unit())
    assert not set(batch.x_labelled.flatten().tolist()) <= set(images.unit().unique().tolist())
    plain = dataclasses.replace(cfg, px_weight=0.)
    batch = draw_batch(start_state(plain, images), plain, images, Processes())
    assert (batch.x_data - images.take(idx).unit()).std() > .05


def test_mixed_starts(images):
    "Half of the chains start in noise, whose first pixel can be anything; on digits it is empty."
    cfg = changed(init='mixed', buffer_size=2000)
    x = start_state(cfg, images).buffer.x
    in_noise = (x[:, 0, 0, 0] > -.9).float().mean()
    assert abs(in_noise - .5 * .95) < 4.5 * (.475 * .525 / 2000)**.5


def test_few_chains(images):
    "The chains that were drawn are written back, and no other."
    cfg = changed(n_chains=8)
    (state, _), fresh = stepped(cfg, images), start_state(cfg, images)
    _, slots = fresh.buffer.sample(8, rng(cfg.seed, 'chain', 0))
    moved = (state.buffer.x != fresh.buffer.x).flatten(1).any(1)
    assert moved.nonzero()[:, 0].tolist() == slots.unique().tolist()


def test_direct(images):
    _, numbers = stepped(model_config(CFG, 'direct'), images, 3)
    assert 'pxy' in numbers and 'px' not in numbers


def test_joint_labels(images):
    "In the joint reading of the direct term labels are drawn from p(y|x₀), before the walk."
    cfg = dataclasses.replace(model_config(CFG, 'direct'), pxy_form='joint', class_cond=False)
    state = start_state(cfg, images)
    x, y, _ = walk_chains(state, cfg, None, Processes())
    g = rng(cfg.seed, 'chain', 0)
    x0, _ = state.buffer.sample(cfg.batch_size, g)
    p_y = state.model.logits(x0).detach().softmax(1)
    y0 = torch.multinomial(p_y, 1, generator=g)[:, 0]
    assert y.tolist() == y0.tolist()
    assert_close(x, sgld(state.model, x0, cfg.n_steps, y=y0, generator=g))


# ---- paths from noise to data ----

MATCHED = dataclasses.replace(model_config(CFG, 'matched'), match_rest=.2, energy_scale=2.)


def test_matched_step(images):
    "One step against its plain form: cross-entropy on noisy images, the slope along paths."
    cfg = dataclasses.replace(MATCHED, optimizer='sgd', beta1=0., lr=1., schedule='step')
    state, net = start_state(cfg, images), start_state(cfg, images).model.model
    numbers = train_step(state, cfg, images)
    x, y = real_batch(cfg, images, 0, 'data', 'cpu')
    paths = path_batch(cfg, images, 0, 'cpu')
    x_t = paths.x.requires_grad_()
    logits = net(x_t)
    with_class = logits[torch.arange(len(y)), paths.y.clamp_min(0)]
    height = torch.where(paths.y < 0, logits.logsumexp(1), with_class).sum()
    slope, = torch.autograd.grad(height, x_t, create_graph=True) # uphill in log p
    term = (2 * slope - paths.velocity).square().mean() / 2
    start = weights(net)
    (cross_entropy(net(x), y) + term).backward()
    grads = torch.cat([q.grad.flatten() for q in net.parameters()])
    assert_close(start - weights(state.model), grads, rtol=1e-3, atol=1e-5)
    assert abs(numbers['match'] - term.item()) < 1e-5 and state.buffer is None


def gradient(cfg, images):
    "The gradient of a step, from one update by SGD with rate 1."
    cfg = dataclasses.replace(cfg, optimizer='sgd', beta1=0., lr=1., schedule='step')
    state = start_state(cfg, images)
    start = weights(state.model)
    train_step(state, cfg, images)
    return start - weights(state.model)


def test_match_weight_falls(images):
    "A step of a falling weight is a step with the weight of that moment."
    falling = dataclasses.replace(MATCHED, match_end=.01, n_epochs=1)
    state = start_state(falling, images)
    for _ in range(20): train_step(state, falling, images)
    same = copy.deepcopy(state)
    done = 20 / (falling.n_epochs * (len(images) // falling.batch_size))
    weight = falling.match_weight * .01**done
    fixed = dataclasses.replace(falling, match_weight=weight, match_end=1.)
    runs = (state, falling), (same, fixed)
    numbers = [train_step(s, cfg, images) for s, cfg in runs]
    assert numbers[0]['loss'] == pytest.approx(numbers[1]['loss'], rel=1e-6)
    assert_close(weights(state.model), weights(same.model))
    assert done > .1 # so that the two weights differ


def test_balance_counts_the_regression_as_exact(images):
    "Only the terms that need chains are scaled; the regression stays with cross-entropy."
    exact = gradient(MATCHED, images)
    sampled = dataclasses.replace(MATCHED, init='uniform', px_weight=50.)
    generative = gradient(sampled, images) - exact
    scale = (exact.norm() / generative.norm()).clamp(max=1.)
    assert scale < .9
    balanced = gradient(dataclasses.replace(sampled, balance=True), images)
    assert_close(balanced, exact + scale * generative, rtol=1e-2, atol=1e-4)


def test_matched_in_bfloat16(images):
    "The second gradient passes through autocast: it points where that of float32 does."
    exact = gradient(MATCHED, images)
    rough = gradient(dataclasses.replace(MATCHED, precision='bfloat16'), images)
    assert rough.isfinite().all()
    assert torch.cosine_similarity(rough, exact, dim=0) > .98


def test_hidden_labels_stay_hidden(images):
    "Where few labels are seen, no other label reaches a path."
    cfg = dataclasses.replace(MATCHED, labels_per_class=4, separate_batches=True, match_cond=1.)
    seen = labelled_indices(cfg, images)
    for step in range(5):
        idx = batch_indices(step, len(images), cfg.batch_size, cfg.seed)
        y = path_batch(cfg, images, step, 'cpu', labelled=seen).y
        known = torch.isin(idx, seen)
        assert torch.equal(y[known], images.y[idx][known]) and (y[~known] == -1).all()


def test_chains_begin_where_the_flow_ends(images):
    "The buffer is noise until log p(x) comes in; then every chain has descended."
    cfg = dataclasses.replace(MATCHED, px_weight=.1, px_delay=2, flow_steps=3, reinit_prob=0.)
    state, fresh = start_state(cfg, images), start_state(cfg, images)
    for _ in range(2): train_step(state, cfg, images)
    assert torch.equal(state.buffer.x, fresh.buffer.x)
    want = sgld(state.model, fresh.buffer.x, 3, cfg.step_size, 0.)
    start_chains_(state, cfg, Processes())
    assert_close(state.buffer.x, want, rtol=1e-4, atol=1e-5)


# ---- the update ----

def test_balance_never_scales_up(images):
    "Where the generative gradient is the smaller one, balance changes nothing."
    cfg = changed(optimizer='sgd', beta1=0., lr=1., px_weight=1e-4)
    a, b = (stepped(dataclasses.replace(cfg, balance=on), images)[0] for on in (True, False))
    assert_close(weights(a.model), weights(b.model), rtol=1e-4, atol=1e-6)


def test_ema(images):
    "The running mean of the weights is what its formula says; training itself is untouched."
    cfg = changed(ema=.5)
    state, _ = stepped(cfg, images)
    want = weights(state.model) # the mean begins with the first weights
    for t in range(1, 5):
        train_step(state, cfg, images)
        want = torch.lerp(want, weights(state.model), 1 - min(.5, (1 + t) / (10 + t)))
    assert_close(weights(eval_model(state)), want, rtol=1e-5, atol=1e-6)
    plain = stepped(CFG, images, 5)[0]
    assert torch.equal(weights(state.model), weights(plain.model))
    assert not torch.equal(weights(eval_model(state)), weights(state.model))
    assert eval_model(plain).model is not None


def plain_samples(net, x, cfg, g):
    "K steps of SGLD in the mode that the network is in."
    for _ in range(cfg.n_steps):
        x.requires_grad_(True)
        grad, = torch.autograd.grad(-net(x).logsumexp(1).sum(), x)
        x = x.detach() - grad + cfg.noise_scale * torch.randn(x.shape, generator=g)
    return x


def plain_batch_norm(cfg, images):
    "One step with batch norm, written plainly: the network's tensors after it, and the gradient."
    state = start_state(cfg, images)
    net = state.model.model.train()
    x, y = real_batch(cfg, images, 0, 'data', 'cpu')
    g = rng(cfg.seed, 'chain', 0)
    x0, _ = state.buffer.sample(cfg.batch_size, g)
    if cfg.norm_stats == 'running':
        net(x)
        net.eval()
    before = copy.deepcopy(net.state_dict())
    samples = plain_samples(net, x0, cfg, g)
    if cfg.norm_stats == 'batch': net.load_state_dict(before) # a chain leaves no trace
    real = net(x)
    after = copy.deepcopy(net.state_dict())                   # real images only have been seen
    gap = net(samples).logsumexp(1).mean() - real.logsumexp(1).mean()
    grads = torch.autograd.grad(gap + cross_entropy(real, y), list(net.parameters()))
    return after, torch.cat([q.flatten() for q in grads])


@pytest.mark.parametrize('mode', ['batch', 'running'])
def test_batch_norm(mode, images):
    "Running statistics and gradient of a step are those of its plain form, and it goes on."
    cfg = changed(norm='batch', norm_stats=mode, optimizer='sgd', beta1=0., lr=.1)
    after, grad = plain_batch_norm(cfg, images)
    state, numbers = stepped(cfg, images)
    for name, v in state.model.model.state_dict().items():
        if 'running' in name: assert_close(v, after[name], rtol=1e-4, atol=1e-5)
    moved = (weights(start_state(cfg, images).model) - weights(state.model)) / .1
    assert_close(moved, grad, rtol=1e-2, atol=1e-3)
    assert (moved - grad).norm() < .01 * grad.norm()
    assert reason_to_stop(numbers) is None
    assert reason_to_stop(stepped(changed(norm='batch', norm_stats=mode), images, 10)[1]) is None


def test_group_norm(images):
    "Group norm sees one image at a time: there is nothing to decide."
    assert reason_to_stop(stepped(changed(norm='group'), images, 2)[1]) is None


def test_older_names():
    "What these functions were called until version 0.1."
    from jem_nb import step
    assert step.sick is step.reason_to_stop and step.calm is step.is_healthy
    assert step.watch_ is step.reason_for_alarm_ and step.RunState.again is step.RunState.attempt
