"""The how-to pages: their Python runs, their commands exist, their links lead somewhere."""
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT/'docs/how-to').glob('*.md'))
TEXTS = {p.stem: p.read_text(encoding='utf-8') for p in PAGES}
ALL = [*PAGES, ROOT/'docs/running.md']


@pytest.mark.parametrize('name', [n for n in TEXTS if n != 'README'])
def test_python(name, tmp_path, monkeypatch, capsys):
    "All Python of a page, one block after the other, in an empty folder beside the records."
    code = '\n'.join(re.findall(r'```python\n(.*?)```', TEXTS[name], re.S))
    assert code, f'{name} has no Python'
    for link in ('data', 'settings.ini'): (tmp_path/link).symlink_to(ROOT/link)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name, 'exec'), {'__name__': name})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize('page', ALL, ids=lambda p: p.stem)
def test_commands(page):
    "Every jem_nb command of a page has options that the parser knows."
    from jem_nb.cli import parser
    from jem_nb.terminal import ALL_COMMANDS
    text = page.read_text(encoding='utf-8')
    for line in re.findall(r'^jem_nb (.+)$', text, re.M):
        parser(ALL_COMMANDS).parse_args(shlex.split(line, comments=True))


@pytest.mark.parametrize('page', ALL, ids=lambda p: p.stem)
def test_links(page):
    for link in re.findall(r'\]\((?!https?://)([^)#\s]+)\)', page.read_text(encoding='utf-8')):
        assert (page.parent/link).exists(), link


def test_all_are_listed():
    listed = re.findall(r'\]\(([\w-]+)\.md\)', TEXTS['README'])
    assert sorted(listed) == sorted(n for n in TEXTS if n != 'README')
