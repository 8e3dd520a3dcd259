"""What the README tells a newcomer to type works, and what it says is so."""
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT/'README.md').read_text(encoding='utf-8')
NUMBER = re.compile(r'-?\d+\.\d+')


def test_example(tmp_path):
    "The Python example runs as printed, outside the checkout, and prints what the README shows."
    code, shown = re.search(r'```python\n(.*?)```\s+```\n(.*?)```', README, re.S).groups()
    ran = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    wanted, got = (list(map(float, NUMBER.findall(t))) for t in (shown, ran.stdout))
    assert len(wanted) == len(got) and wanted == pytest.approx(got, abs=.011)
    assert ran.stdout.splitlines()[-1] == shown.splitlines()[-1] == '[7, 6, 3]'


def test_length(): assert len(README.splitlines()) <= 150


def test_every_notebook_is_listed():
    "The collapsed list names all of them, in order, and nothing else."
    folded = re.search(r'<details>.*?</details>', README, re.S)[0]
    listed = re.findall(r'\(nbs/(\S+?)\.ipynb\)', folded)
    assert listed == sorted(p.stem for p in (ROOT/'nbs').glob('*.ipynb'))


LINKS = sorted(set(re.findall(r'\]\((?!https?://)([^)#\s]+)\)', README)))


@pytest.mark.parametrize('link', LINKS)
def test_link(link): assert (ROOT/link).exists(), link


def test_commands_exist():
    "Every jem_nb command and every make target that the README shows."
    from jem_nb.cli import parser
    from jem_nb.terminal import ALL_COMMANDS
    commands = parser(ALL_COMMANDS)._subparsers._group_actions[0].choices
    assert set(re.findall(r'^jem_nb (\w+)', README, re.M)) <= set(commands)
    targets = set(re.findall(r'^(\w+):', (ROOT/'Makefile').read_text(), re.M))
    assert {'run', 'test', 'lab'} <= targets
    assert set(re.findall(r'`?make (\w+)`?', README)) - {'a'} <= targets


def test_figure_is_the_notebooks():
    "The README's figure is the one that 90_summary stores."
    sys.path.insert(0, str(ROOT/'scripts'))
    from readme import overview
    figure = (ROOT/'docs/overview.png').read_bytes()
    assert figure == overview(), 'run python scripts/readme.py'


def paragraph(start):
    return next(p for p in README.split('\n\n') if p.startswith(f'**{start}'))


def test_what_speaks_against_the_jem_is_said():
    "For each figure of the README and each model that is better: its mean and the JEM's."
    from jem_nb.results import (COLUMNS, FIVE, FLAGSHIP, OF_FLAGSHIP, better_than, read_records)
    said = set(NUMBER.findall(paragraph('What speaks against it')))
    shown = [r for r in read_records(FLAGSHIP) if r['model'] in COLUMNS[:3]]
    lost = better_than(shown, figures=OF_FLAGSHIP)
    for title, other, theirs, ours in lost + better_than(read_records('digits'), figures=FIVE):
        assert theirs.shown(theirs.mean) in said, (title, other)
        assert ours.shown(ours.mean) in said, (title, other)


def test_numbers_against_are_in_the_records():
    "Each 'a against b' of that paragraph is a comparison that the records hold."
    from jem_nb.results import better_than, read_records
    found = {}
    for preset in ('digits', 'mnist_14', 'mnist', 'cifar10_16'):
        for _, _, theirs, ours in better_than(read_records(preset)):
            found.setdefault(theirs.shown(theirs.mean), set()).add(ours.shown(ours.mean))
    said = re.findall(r'(\d+\.\d+) against (\d+\.\d+)', paragraph('What speaks against it'))
    assert len(said) >= 8
    for theirs, ours in said: assert ours in found[theirs], (theirs, ours)


def test_matched_model_is_counted():
    "How many figures of the digits the matched model is ahead in."
    from jem_nb.results import better_than, measured_figures, read_records
    records = read_records('digits')
    ahead = [title for title, other, *_ in better_than(records) if other == 'matched']
    words = f'is ahead in {len(ahead)} of {len(measured_figures(records))} figures'
    assert words in paragraph('What speaks against it')


def test_what_speaks_for_the_jem_is_counted():
    "In how many figures of the flagship it is ahead; its calibration on CIFAR-10."
    from jem_nb.results import (FLAGSHIP, better_than, measured_figures, over_seeds,
                                read_records, select)
    records, text = read_records(FLAGSHIP), paragraph('What speaks for the JEM')
    def ahead(other): # of how many figures that both have
        pair = [r for r in records if r['model'] in ('jem', other)]
        def has(f, m):
            return over_seeds([r for r in pair if r['model'] == m], *f.row[1:4]).values
        both = [f for f in measured_figures(pair) if has(f, 'jem') and has(f, other)]
        return len(better_than(pair, other, both)), len(both)
    (wrn, n), (norm, _) = ahead('baseline'), ahead('baseline_bn')
    assert f'ahead of the plain WRN in {wrn} of {n} figures and of batch norm in {norm}' in text
    trust = [r for r in read_records('trust') if r['preset'] == 'cifar10_16']
    for model in ('jem', 'baseline'):
        runs = select(trust, model=model)
        error = over_seeds(runs, 'metrics.test.ece', 100, 1)
        assert str(error).removesuffix(' (3)') in text
        assert {r['metrics']['test']['n'] for r in runs} == {10_000}


def test_no_placeholders():
    for name in ('README.md', 'settings.ini', 'setup.py', 'CONTRIBUTING.md'):
        assert 'example.org' not in (ROOT/name).read_text(encoding='utf-8'), name


def test_the_imbalance_is_said():
    "The gap of the flagship in words, as its row has it."
    from jem_nb.results import FLAGSHIP, gap_in_sd, over_seeds, read_records, select
    gap = over_seeds(select(read_records(FLAGSHIP), model='jem'), gap_in_sd).mean
    assert gap < 0
    assert f'{-gap:.1f} spreads of the energy above the data' in paragraph('What speaks against it')
