"The gate's measures of legibility go red where they should, and only there."
import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT/'scripts'))
import gate # noqa: E402

LONG = 'x = 1\n' * 16
PLANTED = { # a cell, what is said of it
    'nested comprehension': ('[[a for a in b] for b in c]', 'a comprehension inside'),
    'nested conditional': ('x = 1 if a else 2 if b else 3', 'a conditional expression inside'),
    'crowded dict': ("dict(a=1, b=2, c=3, d=4, e=5)", 'one a line'),
    'long example': (LONG, '16 lines, an example cell has at most 15'),
    'calls only, too many': ('print(1)\n' * 16, '16 lines'),
    'imports do not hide the rest': ('import os\n' + LONG, '16 lines'),
    'long export': ('#| export\n' + 'x = 1\n' * 41, '41 lines, an exported cell'),
    'composed prose': ("Markdown(f'{x}')", 'composes prose'),
}
FINE = {
    'folded': '#| hide-input\n' + LONG,
    'many imports': 'import os\n' * 30,
    'opened dict': 'dict(\n a=1,\n b=2,\n c=3,\n d=4,\n e=5,\n)',
}


@pytest.mark.parametrize('case', PLANTED)
def test_planted(case):
    source, message = PLANTED[case]
    said = list(gate.crowded_cell(dict(source=source), 'here'))
    assert len(said) == 1 and message in said[0]


@pytest.mark.parametrize('case', FINE)
def test_fine(case): assert not list(gate.crowded_cell(dict(source=FINE[case]), 'here'))


@pytest.mark.parametrize('line, rule', [
    ('x = 1' + ' ' * 96 + '# far', 'E501'),
    ('x = 1; y = 2', 'E702'),
    ('x = 1;', 'E703'),
])
def test_lines(tmp_path, line, rule):
    (tmp_path/'planted.py').write_text(line + '\n')
    options = ['--line-length', str(gate.LINE)]
    said = gate.ruff('E501,E702,E703', str(tmp_path), options=options)
    assert len(said) == 1 and rule in said[0]


def test_refusals_are_counted():
    named = list(gate.calls(ast.parse('with pytest.raises(ValueError): f()\ntest_fail(g)')))
    assert sum(n in gate.REFUSES for n in named) == 2
