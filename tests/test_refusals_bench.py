"What 28_bench refuses, and what it says."
import pytest
import torch

from jem_nb.bench import BENCH_PARTS, Case, bench, exponent, run_passes, worker

TINY = Case(depth=10, width=1, size=16, batch=8, n_steps=2, buffer_size=100)


def a_form_that_is_not():
    with worker('none', TINY) as once: once('chain')


CASES = { # what is done, the exception, what is said
    'one size': (lambda: exponent([2, 2], [1, 3]), ValueError, 'a slope needs two at least'),
    'no size': (lambda: exponent([], []), ValueError, '0 different sizes'),
    'unknown part': (lambda: bench('cpu', ('luck',)), ValueError,
                     "no part 'luck': the parts are speed, growth"),
    'unknown images': (lambda: run_passes(dict(config=dict(dataset='garments'), steps=1)),
                       ValueError, "no data set of a preset 'garments'"),
    'unknown form': (a_form_that_is_not, RuntimeError, 'the none form of Case'),
    'words of the process': (a_form_that_is_not, RuntimeError, 'KeyError'),
}


@pytest.mark.parametrize('case', CASES)
def test_refusal(case):
    act, kind, message = CASES[case]
    with pytest.raises(kind, match=message): act()


def test_what_fails_is_noted_and_the_rest_goes_on(monkeypatch):
    def fail(*args, **named): raise RuntimeError('out of memory')
    monkeypatch.setattr('jem_nb.bench.speed', fail)
    monkeypatch.setattr('jem_nb.bench.growth', fail)
    monkeypatch.setattr('jem_nb.bench.profile', lambda *args: dict(noise=1.))
    said, kept = [], []
    record = bench('cpu', ('speed', 'growth', 'profile'), 1, True, save=kept.append,
                   say=said.append)
    found = record['metrics']
    assert found['failed'] == {'WRN-10-1 compile=False': 'out of memory', 'growth': 'out of memory'}
    assert found['speed'] == [] and 'growth' not in found and found['profile'] == dict(noise=1.)
    assert said == ['speed …', '  WRN-10-1: out of memory',
                    'growth …', '  growth failed: out of memory', 'profile …']
    assert len(kept) == 3


def test_all_parts_make_a_complete_record(monkeypatch):
    "On a device that has all of them and after no failure, the record is complete."
    for name in ('growth', 'pipeline', 'profile', 'cpu_settings', 'two_processes', 'import_cost',
                 'peak_memory', 'iteration_costs'):
        monkeypatch.setattr(f'jem_nb.bench.{name}', lambda *args, **named: {})
    ratios = dict(iteration_ratio=1., share=.5)
    monkeypatch.setattr('jem_nb.bench.speed', lambda *args: ratios)
    said = []
    record = bench('cpu', BENCH_PARTS, 1, True, say=said.append)
    assert record['status'] == 'complete' and record['metrics']['speed'] == [ratios]
    assert record['metrics']['threads'] == torch.get_num_threads()
    line = '  WRN-10-1: iteration 1.00 times the naive, 50% of the matrix rate in the chain'
    assert said[1] == line
