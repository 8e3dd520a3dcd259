"""Render the notebooks as one linked HTML book; execute those whose outputs are out of date.

  python scripts/book.py              render into _book/html; pages as committed where
                                      nothing changed
  python scripts/book.py --anew       the same, with every notebook executed
  python scripts/book.py --in-place   execute in nbs/ itself what changed, without live records,
                                      clean, export (make notebooks); with --anew all of it

What the outputs of a page depend on is hashed: its source, the modules it imports and those that
they import, the shipped weights and, from 20 on, the records. nbs/executed.json holds the hashes
of the outputs that are committed. A page that shows the live run of `make run` depends on its
records as well. Two notebooks are executed at a time, with one torch thread each. Files appear
whole or not at all, so Ctrl-C is safe at any moment.
"""
import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from configparser import ConfigParser
from pathlib import Path
from threading import Timer

import nbformat
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
NBS, BOOK = ROOT/'nbs', ROOT/'_book'
CACHE, SRC, HTML = BOOK/'executed', BOOK/'src', BOOK/'html'
TOUCH = BOOK/'touch'                # what the book holds besides its pages
HOW_TO = ROOT/'docs/how-to'
EXECUTED = NBS/'executed.json'  # {notebook: fingerprint of the outputs that it stores}
EVENING = ('00_energy', '02_sgld', '04_loss', '05_first_jem', '30_hybrid', '32_ood')
ROOMS = {  # the parts of the book and the numbers of their notebooks
    'The idea': range(0, 10),
    'The machine': range(10, 20),
    'The instruments': range(20, 30),
    'The experiments': range(30, 40),
    'Beyond the paper': range(40, 50),
    'In use': range(50, 60),
    'Trust': range(60, 70),
    'More experiments': range(70, 90),
    'Summary': range(90, 100),
}
STUCK = 45 * 60  # a notebook that has not ended after so many seconds is called stuck
# What a page would fetch from a network.
REMOTE = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"')
CSS = '''.bd-page-width { max-width: 100rem; }
.bd-main .bd-content .bd-article-container { max-width: 64em; }
div.cell div.cell_input pre, div.cell div.cell_output pre { font-size: .72em; }
div.cell div.cell_input { border-left-color: #c3c9d3; }
div.cell.tag_exported div.cell_input { border-left-color: #1f5fa8; }
div.cell table, .bd-article table {
  display: block;
  overflow-x: auto;
  width: max-content;
  max-width: 100%;
  font-size: .8em;
}
div.cell td:not(:first-child) { white-space: nowrap; }
.bd-header.navbar { display: none; } /* its only content, the search button, stands below it too */
'''


def write_whole(path, text):
    "Write `text` to `path` in one move, and only if it differs."
    if path.exists() and path.read_text(encoding='utf-8') == text: return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.tmp')
    part.write_text(text, encoding='utf-8')
    part.replace(path)


def read_notebook(path): return nbformat.read(path, as_version=4)


# ---- what the outputs of a page depend on ----

def imported(source):
    "Names of our modules that a piece of Python imports."
    lines = [x for x in source.splitlines() if not re.match(r'\s*[%!?]', x)]
    for node in ast.walk(ast.parse('\n'.join(lines))):
        if isinstance(node, ast.Import): names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = ('jem_nb.' if node.level else '') + (node.module or '')
            names = [module, *(f'{module}.{a.name}' for a in node.names)]
        else: continue
        yield from (n.split('.')[1] for n in names if n.startswith('jem_nb.'))


def module_files(sources):
    "The modules of jem_nb that pieces of Python rest on, the imports of imports included."
    found, todo = {ROOT/'jem_nb/__init__.py', ROOT/'jem_nb/compat.py'}, list(sources)
    while todo:
        for name in set(imported(todo.pop())):
            f = ROOT/f'jem_nb/{name}.py'
            if f.is_file() and f not in found:
                found.add(f)
                todo.append(f.read_text(encoding='utf-8'))
    return found


def shows_live_run(nb_path, cells):
    "Whether a page is an experiment that reads the records of `make run`."
    readers = 'live_record(', 'book_models('
    return nb_path.name >= '30' and any(word in c.source for c in cells for word in readers)


def input_files(nb_path, cells, live):
    "The files that the outputs of a notebook depend on."
    sources = [c.source for c in cells if c.cell_type == 'code']
    files = {*module_files(sources), *NBS.glob('fixtures/**/*')}
    if ROOT/'jem_nb/train.py' in files: files |= set(ROOT.glob('jem_nb/weights/*'))
    if nb_path.name >= '20': files |= set(ROOT.glob('data/results/**/*.json'))
    if live and shows_live_run(nb_path, cells):
        files |= set(ROOT.glob('data/runs/live/*/evaluated.json'))
    return sorted(f for f in files if f.is_file())


def fingerprint(nb_path, live=True):
    """What the outputs of a notebook depend on, hashed.

    `live`: the records of `make run` too, where the page shows them.
    """
    cells = read_notebook(nb_path).cells
    h = hashlib.sha256()
    for c in cells:
        if c.cell_type == 'code': h.update(f'{c.id} {c.source}'.encode())
    for f in input_files(nb_path, cells, live):
        h.update(str(f.relative_to(ROOT)).encode() + meaning(f))
    return h.hexdigest()[:16]


def meaning(f):
    "What of a file matters to a page that rests on it: of Python its syntax, not its layout."
    if f.suffix != '.py': return f.read_bytes()
    return ast.dump(ast.parse(f.read_text(encoding='utf-8'))).encode()


def committed_fingerprints():
    "{notebook: fingerprint} of the outputs that are committed."
    return json.loads(EXECUTED.read_text()) if EXECUTED.exists() else {}


def stale(paths):
    "The notebooks whose stored outputs do not fit their inputs."
    known = committed_fingerprints()
    return [p for p in paths if known.get(p.stem) != fingerprint(p, live=False)]


# ---- execution: a child process per notebook, so that its end takes the kernel along ----

def execute_one(source, target):
    "In a child process: execute `source` in nbs/, print a line a cell, write `target`."
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    nb = read_notebook(source)
    client = NotebookClient(nb, timeout=None, kernel_name='python3',
                            resources={'metadata': {'path': str(NBS)}},
                            on_cell_executed=lambda **kw: print('cell', flush=True))
    try: client.execute()
    except CellExecutionError as e:
        print(e, file=sys.stderr)
        return 1
    write_whole(target, nbformat.writes(nb) + '\n')
    return 0


def environment(live):
    "The variables of a child; `live`: whether the page may show the live run."
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    env = {
        **os.environ,
        'PYTHONPATH': path,
        'OMP_NUM_THREADS': '1',
        'OMP_WAIT_POLICY': 'PASSIVE',
        'MPLBACKEND': 'module://matplotlib_inline.backend_inline',
        'TQDM_DISABLE': '1',
        'JUPYTER_PREFER_ENV_PATH': '1',
        'PYTHONWARNINGS': 'ignore',
    }
    if not live: env['JEM_NB_LIVE'] = '0'
    return env


class Child:
    "A process that executes one notebook; it is asked to stop where it does not end by itself."
    def __init__(self, source, target, env):
        self.late = False
        words = [sys.executable, __file__, '--execute', str(source), str(target)]
        self.process = subprocess.Popen(words, env=env, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def interrupt(self): self.process.send_signal(signal.SIGINT)

    def stop_as_stuck(self):
        self.late = True
        self.interrupt()
        Timer(10, self.process.kill).start()

    def complaint(self, each_cell):
        "Wait for the end, calling `each_cell` for each cell; what went wrong, or None."
        timer = Timer(STUCK, self.stop_as_stuck)
        timer.start()
        for _ in self.process.stdout: each_cell()
        err = self.process.stderr.read()
        timer.cancel()
        if self.late: return f'stuck: no end after {STUCK // 60} minutes'
        return err if self.process.wait() else None


def code_cells(nb_path):
    "The number of code cells, for the progress bar."
    return sum(c.cell_type == 'code' for c in read_notebook(nb_path).cells)


def execute_all(jobs, live=True):
    "Execute each (source, target) of `jobs`, two at a time; {name: complaint} of failures."
    env, children, failed = environment(live), [], {}
    total = sum(code_cells(source) for source, _ in jobs)
    bar = tqdm(total=total, desc='executing', unit='cell', disable=not sys.stderr.isatty())

    def execute(source, target):
        child = Child(source, target, env)
        children.append(child)
        return child.complaint(bar.update)

    with ThreadPoolExecutor(2) as pool:
        futures = {pool.submit(execute, source, target): source.stem for source, target in jobs}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                name, complaint = futures[future], future.result()
                if complaint: failed[name] = complaint
                end = 'FAILED' if complaint else 'executed'
                if bar.disable: print(f'  {done}/{len(jobs)} {name}: {end}', flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children: child.interrupt()
            raise
        finally: bar.close()
    return failed


# ---- the pages ----

def opening(nb):
    "(title, claim) of a notebook: its H1 and the quote below it."
    text = nb.cells[0].source
    title = re.search(r'^# +(.+)$', text, re.M)
    claim = re.search(r'^> ?(.+(?:\n> ?.+)*)', text, re.M)
    return (
        title[1].strip() if title else 'Untitled',
        re.sub(r'\n> ?', ' ', claim[1]).strip() if claim else '',
    )


def linked(text, names):
    "Prose in which the name of another notebook, as in `02_sgld`, is a link to its page."
    def link(m): return f'[{m[0]}]({m[1]})' if m[1] in names else m[0]
    return re.sub(r'(?<![\[`])`(\d\d_\w+)`(?!`)', link, text)


def is_directive(line): return line.lstrip().startswith('#|')


def code_shown(cell):
    "Whether the book shows a code cell; tags it and strips its directives if so."
    lines = cell.source.splitlines()
    directives = ' '.join(x for x in lines if is_directive(x))
    if re.search(r'#\|\s*(hide(?![-_])|default_exp)\b', directives): return False
    if re.search(r'#\|\s*hide[-_]input\b', directives): cell.metadata['tags'] = ['hide-input']
    if re.search(r'#\|\s*exports?\b', directives): cell.metadata['tags'] = ['exported']
    cell.source = '\n'.join(x for x in lines if not is_directive(x))
    return True


def page(nb, names):
    "A notebook as the book shows it: no plumbing cells, no directives, names of others as links."
    kept = []
    for cell in nb.cells:
        if cell.cell_type == 'markdown': cell.source = linked(cell.source, names)
        elif cell.cell_type == 'code' and not code_shown(cell): continue
        cell.source = cell.source.strip('\n')
        if cell.source: kept.append(cell)
    nb.cells = kept
    return nb


def settings():
    "The fields of settings.ini: title, author, version, description and others."
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']


MYST = dict(  # how Sphinx reads a notebook
    extensions=['myst_nb'],
    exclude_patterns=['_static'],
    nb_execution_mode='off',
    nb_merge_streams=True,
    nb_render_markdown_format='myst',
    myst_enable_extensions=['dollarmath', 'amsmath'],
    myst_heading_anchors=3,
    myst_dmath_double_inline=True,
    suppress_warnings=['mystnb.unknown_mime_type', 'myst.header'],
)
THEME = dict(
    show_navbar_depth=1,
    show_toc_level=2,
    home_page_in_toc=True,
    use_download_button=False,
    use_fullscreen_button=False,
    extra_footer='',
)
LOOK = dict(  # how a page looks
    html_theme='sphinx_book_theme',
    html_theme_options=THEME,
    html_static_path=['_static'],
    html_css_files=['book.css'],
    html_copy_source=False,
    html_extra_path=['../touch'],
    html_show_sphinx=False,
    html_show_search_summary=False,
    html_last_updated_fmt=None,
    mathjax_path='mathjax/tex-svg-full.js',
    mathjax3_config=dict(svg=dict(fontCache='global'), options=dict(enableMenu=False)),
)


def conf(cfg):
    "Sphinx's conf.py: nothing executed, nothing fetched."
    values = {
        'project': cfg['title'],
        'author': cfg['author'],
        'copyright': cfg['copyright'],
        'version': cfg['version'],
        'release': cfg['version'],
        'html_title': cfg['title'],
        **MYST,
        **LOOK,
    }
    return '\n'.join(f'{k} = {v!r}' for k, v in values.items()) + '\n'


def index(cfg, names, to_touch):
    "The first page: every notebook in reading order with its claim, a section for each part."
    out = [
        f'# {cfg["title"]}',
        cfg['description'] + '.',
        'Each page is a notebook. What it says is executed there, '
        'and the cells with a blue edge are the package itself.',
        *evening_path(names),
        *to_touch,
    ]
    for room, numbers in ROOMS.items():
        here = [n for n in names if int(n[:2]) in numbers]
        if here: out += room_section(room, here)
    return '\n\n'.join([*out, *how_to_section()]) + '\n'


def evening_path(names):
    "The pages that tell the idea in one evening."
    titles = {n: opening(read_notebook(SRC/f'{n}.ipynb'))[0] for n in EVENING if n in names}
    return ['## One evening', '\n'.join(f'1. [{title}]({n})' for n, title in titles.items())]


def how_to_section():
    "The short answers of docs/how-to, as pages of the book."
    names = sorted(p.stem for p in HOW_TO.glob('*.md') if p.stem != 'README')
    titles = {n: (HOW_TO/f'{n}.md').read_text(encoding='utf-8').splitlines()[0][2:] for n in names}
    listed = [f'- [{title}](how-to/{name})' for name, title in titles.items()]
    pages = [f'how-to/{n}' for n in names] + ['running']
    hidden = ['```{toctree}', ':hidden:', ':caption: How to', '', *pages, '```']
    return ['## How to', '\n'.join([*listed, '- [Running it](running)']), '\n'.join(hidden)]


def in_the_book(text):
    "A page of docs/ with its links to notebooks and other files as the book has them."
    text = re.sub(r'\]\((?:\.\./)+nbs/(\w+)\.ipynb\)', r'](/\1)', text)
    outside = r'\[([^]]*)\]\((?:\.\./)+(?!running)[^)]*\)' # links to files that the book lacks
    text = re.sub(outside, r'\1', text)
    return re.sub(r'\]\(([./\w-]+)\.md\)', r'](\1)', text)


def write_docs():
    "The how-to pages and docs/running.md among the sources of the book."
    for p in [*HOW_TO.glob('*.md'), ROOT/'docs/running.md']:
        if p.stem == 'README': continue
        to = SRC/p.relative_to(ROOT/'docs')
        write_whole(to, in_the_book(p.read_text(encoding='utf-8')))


def room_section(room, names):
    "A part of the book; its hidden list tells Sphinx which page is previous and which is next."
    out = [f'## {room}']
    for name in names:
        title, claim = opening(read_notebook(SRC/f'{name}.ipynb'))
        out.append(f'**[{title}]({name})** &ensp;`{name}`\\\n{claim}')
    hidden = ['```{toctree}', ':hidden:', f':caption: {room}', '', *names, '```']
    return [*out, '\n'.join(hidden)]


def write_sources(files, to_touch):
    "What Sphinx reads, from {name: executed notebook}."
    cfg, names = settings(), list(files)
    for old in SRC.glob('*.ipynb'):
        if old.stem not in names: old.unlink()
    for name in names:
        nb = page(read_notebook(files[name]), names)
        write_whole(SRC/f'{name}.ipynb', nbformat.writes(nb) + '\n')
    write_whole(SRC/'conf.py', conf(cfg))
    write_whole(SRC/'index.md', index(cfg, names, to_touch))
    write_docs()
    write_whole(SRC/'_static/book.css', CSS)
    copy_mathjax(SRC/'_static/mathjax')


def copy_mathjax(folder):
    "What renders the equations, so that no page needs a network."
    import mathjax
    package = Path(mathjax.__file__).parent/'static/mathjax'
    folder.mkdir(parents=True, exist_ok=True)
    for f in (package/'es5/tex-svg-full.js', package/'LICENSE'): shutil.copy(f, folder/f.name)


def fetched(folder):
    "What the pages of a folder would fetch from a network."
    found = set()
    for p in folder.rglob('*.html'):
        found |= {f'{p.name}: {m}' for m in REMOTE.findall(p.read_text(encoding='utf-8'))}
    return sorted(found)


def runtime():
    "onnxruntime-web, fetched once; None, with a word why, where it cannot be had."
    from jem_nb.web_page import RUNTIME, fetch_runtime
    folder, part = BOOK/RUNTIME, BOOK/'runtime.tmp'
    if folder.is_dir(): return folder
    print(f'fetching {RUNTIME}, 33 MB, once', flush=True)
    try: return fetch_runtime(part).rename(folder)
    except RuntimeError as e: print(f'the book gets no page to draw on: {e}')


def page_to_touch():
    "A page to draw on among the sources; what the first page says of it."
    from jem_nb.demo import known_model
    from jem_nb.web_page import web_page
    shutil.rmtree(TOUCH, ignore_errors=True)
    TOUCH.mkdir(parents=True)
    if not (found := runtime()): return []
    models = [known_model(name) for name in ('mnist_14', 'digits')]
    model = next(m for m in models if m.scores) # scikit-learn has the digits
    web_page(model, TOUCH/'touch', found, model.config.dataset)
    return ['## To touch', '<a href="touch/page.html">Draw a digit</a>, and see what the model '
            'makes of it. It runs in your browser; how, is on '
            '[A page without a server](58_web_page).']


def put_in_place(fresh):
    "The new pages instead of the old ones, by renaming folders."
    old = BOOK/'html.old'
    shutil.rmtree(old, ignore_errors=True)
    if HTML.exists(): HTML.replace(old)
    fresh.replace(HTML)
    shutil.rmtree(old, ignore_errors=True)


def render(files):
    "Make the book of {name: executed notebook} in a fresh folder and put it in place."
    from sphinx.cmd.build import build_main
    write_sources(files, page_to_touch())
    fresh = BOOK/'html.tmp'
    shutil.rmtree(fresh, ignore_errors=True)
    doctrees = str(BOOK/'doctrees')
    if build_main(['-q', '-b', 'html', '-d', doctrees, str(SRC), str(fresh)]): return 1
    if remote := fetched(fresh):
        print('the book would need a network:', *remote, sep='\n  ', file=sys.stderr)
        return 1
    put_in_place(fresh)
    return 0


# ---- what failed ----

def lines_of(complaint):
    "The lines of a kernel's traceback, without colours and the kernel's own words."
    text = re.sub(r'\x1b\[[\d;]*m', '', complaint).strip()
    return [x for x in text.splitlines() if not x.startswith('[IPKernelApp]')]


def report(failed):
    "Show the cell and the traceback of each failure; the exit status."
    for name, complaint in failed.items():
        head = f'\n{"=" * 20} {name} {"=" * 20}'
        print(head, *lines_of(complaint), sep='\n', file=sys.stderr)
    if failed: print(f'\n{len(failed)} notebooks failed: {", ".join(failed)}', file=sys.stderr)
    return int(bool(failed))


# ---- the two ways to run this script ----

def in_place(paths):
    "Execute nbs/ itself, clean and export as nbdev does, and note what the outputs rest on."
    from nbdev.clean import nbdev_clean
    from nbdev.doclinks import nbdev_export
    os.chdir(ROOT)
    nbdev_export()
    failed = execute_all([(p, p) for p in paths], live=False)
    nbdev_clean()
    nbdev_export()
    known = committed_fingerprints()
    known |= {p.stem: fingerprint(p, live=False) for p in paths if p.stem not in failed}
    names = sorted(p.stem for p in NBS.glob('[0-9]*.ipynb'))
    noted = {name: known[name] for name in names if name in known}
    write_whole(EXECUTED, json.dumps(noted, indent=1) + '\n')
    return report(failed)


def with_stored_outputs(nb_path, target):
    "Write the notebook as it is, with its sources as they are now and the committed outputs."
    write_whole(target, nb_path.read_text(encoding='utf-8'))


def bring_up_to_date(paths, anew):
    "{name: file} of the pages, executed where their inputs changed; {name: complaint} of failures."
    committed = committed_fingerprints()
    inputs = {p: fingerprint(p) for p in paths}
    targets = {p: CACHE/f'{p.stem}.{inputs[p]}.ipynb' for p in paths}
    todo, kept = [], 0
    for p, target in targets.items():
        if target.exists() and not anew: continue
        if not anew and committed.get(p.stem) == inputs[p]:
            with_stored_outputs(p, target)
            kept += 1
        else: todo.append((p, target))
    print(f'{len(paths)} notebooks: {len(todo)} to execute, {kept} as committed, '
          f'{len(paths) - len(todo) - kept} unchanged since they last were', flush=True)
    failed = execute_all(todo)
    for p in targets:
        if p.stem not in failed: continue
        # The page is shown as committed, and tried again next time.
        targets[p] = targets[p].with_suffix('.failed.ipynb')
        with_stored_outputs(p, targets[p])
    for f in set(CACHE.glob('*')) - set(targets.values()): f.unlink()
    return {p.stem: target for p, target in targets.items()}, failed


def options():
    "What the command line asks for."
    ap = argparse.ArgumentParser(
        description='Render the book, executing the notebooks whose inputs changed.')
    ap.add_argument('--anew', action='store_true', help='execute every notebook')
    ap.add_argument('--in-place', action='store_true',
                    help='execute nbs/ itself, clean and export; render nothing')
    ap.add_argument('--only', default='', metavar='WORD',
                    help='with --in-place: only what has this in its name')
    ap.add_argument('--failures', type=Path,
                    help='file for the names and reasons of pages that failed, as JSON')
    ap.add_argument('--execute', nargs=2, metavar=('SOURCE', 'TARGET'), help=argparse.SUPPRESS)
    return ap.parse_args()


def main():
    asked = options()
    if asked.execute: return execute_one(*map(Path, asked.execute))
    paths = sorted(p for p in NBS.glob('[0-9]*.ipynb') if asked.only in p.stem)
    if asked.in_place: return in_place(paths if asked.anew or asked.only else stale(paths))
    files, failed = bring_up_to_date(paths, asked.anew)
    report(failed)
    if asked.failures:
        reasons = {name: lines_of(complaint)[-1] for name, complaint in failed.items()}
        write_whole(asked.failures, json.dumps(reasons))
    print('rendering, about ten seconds', flush=True)
    return render(files) or int(bool(failed))


if __name__ == '__main__':
    try: sys.exit(main())
    except KeyboardInterrupt: sys.exit('\ninterrupted; nothing half-written, run again to go on')
