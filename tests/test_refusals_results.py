"What 20_results refuses, and what it says."
import pytest
import torch

from jem_nb.results import (
    Table, append_record, mcnemar, paired_difference, read_records, render_readme, select,
    share_interval,
)

RECORD = dict(
    experiment='demo',
    preset='digits',
    model='jem',
    config={},
    seed=0,
    started='2026-01-01T00:00:00Z',
    commit='abc',
    torch='2',
    device='CPU',
    wall_seconds=1.,
    status='complete',
    n_eval=360,
    metrics={},
)


def write_twice(folder):
    append_record(RECORD, folder)
    append_record(RECORD, folder)


def unknown_status(folder):
    append_record(RECORD | dict(status='fine'), folder)


def read_what_is_none(folder):
    (folder/'demo').mkdir()
    (folder/'demo'/'x.json').write_text('{"seed": 1}')
    read_records('demo', folder)


def mixed_recipes(folder):
    select([RECORD, RECORD | dict(seed=1, config=dict(lr=1.))], model='jem')


RIGHT = torch.tensor([True, False, True])
SEEDS = RIGHT.repeat(2, 1)

CASES = {
    'written twice': (write_twice, FileExistsError, 'written once'),
    'no record': (read_what_is_none, ValueError, 'x.json: a record needs experiment'),
    'unknown status': (unknown_status, ValueError, 'status'),
    'mixed recipes': (mixed_recipes, ValueError, 'different recipes'),
    'short row': (lambda f: Table(('a', 'b'), [('x',)]), ValueError, 'has 1 cells'),
    'unequal images': (lambda f: mcnemar(RIGHT, RIGHT[:2]), ValueError, 'in the same order'),
    'labels for images': (lambda f: mcnemar(RIGHT, RIGHT.long()), ValueError, 'a bool for each'),
    'other images': (lambda f: paired_difference(SEEDS, SEEDS[:, :2]), ValueError, 'same n images'),
    'no seeds': (lambda f: paired_difference(RIGHT, RIGHT), ValueError, 'give .seeds, n.'),
    'one image': (lambda f: paired_difference(SEEDS[:, :1], SEEDS[:, :1]), ValueError, 'two'),
    'percent': (lambda f: share_interval(90., 100), ValueError, 'between 0 and 1'),
    'no markers': (lambda f: render_readme('# none', 'x'), ValueError, 'lacks the markers'),
}


@pytest.mark.parametrize('case', CASES)
def test_refusal(case, tmp_path):
    act, kind, message = CASES[case]
    with pytest.raises(kind, match=message): act(tmp_path)


def test_other_recipe_in_the_same_second(tmp_path):
    "It is another run: both are kept, and each is refused a second time."
    other = RECORD | dict(config=RECORD['config'] | dict(lr=.5))
    paths = {append_record(r, tmp_path) for r in (RECORD, other)}
    assert len(paths) == 2 == len(list(tmp_path.glob('*.json')))
    for again in (RECORD, other):
        with pytest.raises(FileExistsError): append_record(again, tmp_path)


def test_nothing_is_lost(tmp_path):
    "The first record stays as it was when a second one of the same run is refused."
    path = append_record(RECORD, tmp_path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError): append_record(RECORD | dict(n_eval=1), tmp_path)
    assert path.read_bytes() == before
