"""What the README tells a newcomer to type works."""
import re, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()


def test_example(tmp_path):
    "The Python example runs as printed, in a fresh process outside the checkout."
    code, = re.findall(r'```python\n(.*?)```', README, re.S)
    out = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert out.returncode == 0, out.stderr
    assert 'torch.Size([4, 3, 64, 64])' in out.stdout


def test_every_notebook_is_listed():
    "The table of notebooks names all of them, in order, and nothing else."
    table = '\n'.join(line for line in README.splitlines() if line.startswith('|'))
    listed = re.findall(r'\(nbs/(\S+?)\.ipynb\)', table)
    assert listed == sorted(p.stem for p in (ROOT / 'nbs').glob('*.ipynb'))


@pytest.mark.parametrize('link', sorted(set(re.findall(r'\]\((?!https?://)([^)#\s]+)\)', README))))
def test_link(link): assert (ROOT / link).exists(), link


def test_commands_exist():
    "Every jem_nb command and every make target that the README shows."
    from jem_nb.cli import parser
    commands = parser()._subparsers._group_actions[0].choices
    assert set(re.findall(r'^jem_nb (\w+)', README, re.M)) <= set(commands)
    targets = set(re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.M))
    assert {'run', 'test', 'lab'} <= targets and set(re.findall(r'`?make (\w+)`?', README)) - {'a'} <= targets


def test_figure_is_the_notebooks():
    "The README's figure is the one that 90_summary stores."
    sys.path.insert(0, str(ROOT / 'scripts'))
    from readme import overview
    assert (ROOT / 'docs/overview.png').read_bytes() == overview(), 'run python scripts/readme.py'
