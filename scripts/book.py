"""Render the notebooks as one linked HTML book, executing those whose stored outputs do not fit their inputs.

  python scripts/book.py              render into _book/html; pages as committed where nothing changed
  python scripts/book.py --anew       the same, with every notebook executed
  python scripts/book.py --in-place   execute in nbs/ itself what changed, without live records, clean, export (make
                                      notebooks); with --anew all of it

What the outputs of a page depend on is hashed: its source, the modules it imports and those that they import, the
shipped weights and, from 20 on, the records. nbs/executed.json holds the hashes of the outputs that are committed. A
page that shows the live run of `make run` depends on its records as well. Two are executed at a time, one torch thread
each. Files appear whole or not at all, so Ctrl-C is safe at any moment.
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
from pathlib import Path
from threading import Timer

import nbformat
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
NBS, BOOK = ROOT/'nbs', ROOT/'_book'
CACHE, SRC, HTML = BOOK/'executed', BOOK/'src', BOOK/'html'
EXECUTED = NBS/'executed.json' # {notebook: fingerprint of the outputs that it stores}
ROOMS = {'The idea': range(0, 10), 'The machine': range(10, 20), 'The instruments': range(20, 30),
         'The experiments': range(30, 40), 'Beyond the paper': range(40, 50), 'In use': range(50, 90),
         'Summary': range(90, 100)}
STUCK = 45 * 60 # seconds without an end, after which a notebook is called stuck; nothing is near it
REMOTE = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"') # what a page would fetch from a network
CSS = '''.bd-page-width { max-width: 100rem; }
.bd-main .bd-content .bd-article-container { max-width: 64em; }
div.cell div.cell_input pre, div.cell div.cell_output pre { font-size: .8em; }
div.cell div.cell_input { border-left-color: #c3c9d3; }
div.cell.tag_exported div.cell_input { border-left-color: #1f5fa8; }
div.cell table, .bd-article table { display: block; overflow-x: auto; width: max-content; max-width: 100%; font-size: .8em; }
div.cell td:not(:first-child) { white-space: nowrap; }
.bd-header.navbar { display: none; } /* its only content, the search button, stands below it too */
'''


def write_whole(path, text):
    "Write `text` to `path` in one move, and only if it differs"
    if path.exists() and path.read_text(encoding='utf-8') == text: return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + '.tmp')
    part.write_text(text, encoding='utf-8')
    part.replace(path)


# ---- execution: a child process per notebook, so that a timeout or Ctrl-C takes its kernel along ----

def execute_one(source, target):
    "Child process: execute `source` in nbs/, print a line a cell, write `target`"
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    nb = nbformat.read(source, as_version=4)
    client = NotebookClient(nb, timeout=None, kernel_name='python3', resources={'metadata': {'path': str(NBS)}},
                            on_cell_executed=lambda **kw: print('cell', flush=True))
    try: client.execute()
    except CellExecutionError as e: print(e, file=sys.stderr); return 1
    write_whole(target, nbformat.writes(nb) + '\n')
    return 0


def imported(source): # names of our modules that a piece of Python imports
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


def shows_live_run(nb_path, cells): # the experiments that read the records of make run
    return nb_path.name >= '30' and any('live_record(' in c.source or 'book_models(' in c.source for c in cells)


def fingerprint(nb_path, live=True):
    "What the outputs of a notebook depend on, hashed; `live`: the records of `make run` too, where the page shows them"
    cells = nbformat.read(nb_path, as_version=4).cells
    code = [c for c in cells if c.cell_type == 'code']
    h = hashlib.sha256()
    for c in code: h.update(f'{c.id} {c.source}'.encode())
    files = {*module_files(c.source for c in code), *NBS.glob('fixtures/**/*')}
    if ROOT/'jem_nb/train.py' in files: files |= set(ROOT.glob('jem_nb/weights/*'))
    if nb_path.name >= '20': files |= set(ROOT.glob('data/results/**/*.json'))
    if live and shows_live_run(nb_path, cells): files |= set(ROOT.glob('data/runs/live/*/evaluated.json'))
    for f in sorted(f for f in files if f.is_file()): h.update(str(f.relative_to(ROOT)).encode() + f.read_bytes())
    return h.hexdigest()[:16]


def with_stored_outputs(nb_path, target): # the committed outputs between the sources as they are now
    write_whole(target, nb_path.read_text(encoding='utf-8'))


def code_cells(nb_path): return sum(c.cell_type == 'code' for c in nbformat.read(nb_path, as_version=4).cells)


def execute_all(jobs, live=True):
    "Execute each (source, target) of `jobs`, two at a time; {name: complaint} of those that failed"
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    env = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1', OMP_WAIT_POLICY='PASSIVE', MPLBACKEND='module://matplotlib_inline.backend_inline',
               TQDM_DISABLE='1', JUPYTER_PREFER_ENV_PATH='1', PYTHONWARNINGS='ignore')
    if not live: env['JEM_NB_LIVE'] = '0'
    bar = tqdm(total=sum(code_cells(s) for s, _ in jobs), desc='executing', unit='cell', disable=not sys.stderr.isatty())
    procs, failed, done = [], {}, 0

    def one(source, target):
        p = subprocess.Popen([sys.executable, __file__, '--execute', str(source), str(target)], env=env, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        procs.append(p)
        late = []
        timer = Timer(STUCK, lambda: (late.append(1), p.send_signal(signal.SIGINT), Timer(10, p.kill).start()))
        timer.start()
        for _ in p.stdout: bar.update()
        err = p.stderr.read()
        timer.cancel()
        return f'stuck: no end after {STUCK // 60} minutes' if late else err if p.wait() else None

    with ThreadPoolExecutor(2) as pool:
        futures = {pool.submit(one, s, t): s.stem for s, t in jobs}
        try:
            for f in as_completed(futures):
                done += 1
                name, complaint = futures[f], f.result()
                if complaint: failed[name] = complaint
                if bar.disable: print(f'  {done}/{len(jobs)} {name}: {"FAILED" if complaint else "executed"}', flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for p in procs: p.send_signal(signal.SIGINT)
            raise
        finally: bar.close()
    return failed


# ---- the pages ----

def opening(nb):
    "(title, claim) of a notebook: its H1 and the quote below it"
    text = nb.cells[0].source
    title = re.search(r'^# +(.+)$', text, re.M)
    claim = re.search(r'^> ?(.+(?:\n> ?.+)*)', text, re.M)
    return (title[1].strip() if title else 'Untitled'), (re.sub(r'\n> ?', ' ', claim[1]).strip() if claim else '')


def page(nb, names):
    "A notebook as the book shows it: plumbing cells gone, directive lines stripped, `02_sgld` in prose a link"
    kept = []
    for c in nb.cells:
        if c.cell_type == 'markdown':
            c.source = re.sub(r'(?<![\[`])`(\d\d_\w+)`(?!`)', lambda m: f'[{m[0]}]({m[1]})' if m[1] in names else m[0], c.source)
        lines = c.source.splitlines()
        marks = ' '.join(x for x in lines if x.lstrip().startswith('#|')) if c.cell_type == 'code' else ''
        if re.search(r'#\|\s*(hide(?![-_])|default_exp)\b', marks): continue
        if re.search(r'#\|\s*hide[-_]input\b', marks): c.metadata['tags'] = ['hide-input'] # a fold
        if re.search(r'#\|\s*exports?\b', marks): c.metadata['tags'] = ['exported']
        c.source = '\n'.join(x for x in lines if c.cell_type != 'code' or not x.lstrip().startswith('#|')).strip('\n')
        if c.source: kept.append(c)
    nb.cells = kept
    return nb


def settings(): # settings.ini, without a second parser for the version and the description
    from configparser import ConfigParser
    ini = ConfigParser(delimiters=['='])
    ini.read(ROOT/'settings.ini', encoding='utf-8')
    return ini['DEFAULT']


def conf(cfg):
    "Sphinx's conf.py: nothing executed, nothing fetched"
    values = dict(
        project=cfg['title'], author=cfg['author'], copyright=cfg['copyright'], version=cfg['version'], release=cfg['version'],
        extensions=['myst_nb'], exclude_patterns=['_static'], nb_execution_mode='off', nb_merge_streams=True, nb_render_markdown_format='myst',
        myst_enable_extensions=['dollarmath', 'amsmath'], myst_heading_anchors=3, myst_dmath_double_inline=True, suppress_warnings=['mystnb.unknown_mime_type', 'myst.header'],
        html_theme='sphinx_book_theme', html_title=cfg['title'], html_static_path=['_static'], html_css_files=['book.css'], html_copy_source=False,
        html_show_sphinx=False, html_show_search_summary=False, html_last_updated_fmt=None,
        html_theme_options=dict(show_navbar_depth=1, show_toc_level=2, home_page_in_toc=True, use_download_button=False,
                                use_fullscreen_button=False, extra_footer=''),
        mathjax_path='mathjax/tex-svg-full.js', mathjax3_config=dict(svg=dict(fontCache='global'), options=dict(enableMenu=False)))
    return '\n'.join(f'{k} = {v!r}' for k, v in values.items()) + '\n'


def index(cfg, names):
    "The first page: every notebook in reading order with its claim; the hidden lists give previous and next"
    out = [f'# {cfg["title"]}', cfg['description'] + '.',
           'Each page is a notebook. What it says is executed there, and the cells with a blue edge are the package itself.']
    for room, numbers in ROOMS.items():
        here = [n for n in names if int(n[:2]) in numbers]
        if not here: continue
        out += [f'## {room}']
        for n in here:
            title, claim = opening(nbformat.read(SRC/f'{n}.ipynb', as_version=4))
            out += [f'**[{title}]({n})** &ensp;`{n}`\\\n{claim}']
        out += ['\n'.join(['```{toctree}', ':hidden:', f':caption: {room}', '', *here, '```'])]
    return '\n\n'.join(out) + '\n'


def render(files):
    "Write the sources of the book from {name: executed notebook}, run Sphinx into a fresh folder, put it in place"
    import mathjax
    from sphinx.cmd.build import build_main
    cfg, names = settings(), list(files)
    for old in SRC.glob('*.ipynb'):
        if old.stem not in names: old.unlink()
    for n in names:
        nb = nbformat.read(files[n], as_version=4)
        write_whole(SRC/f'{n}.ipynb', nbformat.writes(page(nb, names)) + '\n')
    write_whole(SRC/'conf.py', conf(cfg))
    write_whole(SRC/'index.md', index(cfg, names))
    write_whole(SRC/'_static/book.css', CSS)
    (SRC/'_static/mathjax').mkdir(parents=True, exist_ok=True)
    package = Path(mathjax.__file__).parent/'static/mathjax'
    for f in (package/'es5/tex-svg-full.js', package/'LICENSE'): shutil.copy(f, SRC/'_static/mathjax'/f.name)
    fresh = BOOK/'html.tmp'
    shutil.rmtree(fresh, ignore_errors=True)
    if build_main(['-q', '-b', 'html', '-d', str(BOOK/'doctrees'), str(SRC), str(fresh)]): return 1
    fetched = {f'{p.name}: {m}' for p in fresh.glob('*.html') for m in REMOTE.findall(p.read_text(encoding='utf-8'))}
    if fetched: print('the book would need a network:', *sorted(fetched), sep='\n  ', file=sys.stderr); return 1
    old = BOOK/'html.old'
    shutil.rmtree(old, ignore_errors=True)
    if HTML.exists(): HTML.replace(old)
    fresh.replace(HTML)
    shutil.rmtree(old, ignore_errors=True)
    return 0


def lines_of(complaint): # of a kernel's traceback, without colours and the kernel's own words
    text = re.sub(r'\x1b\[[\d;]*m', '', complaint).strip()
    return [x for x in text.splitlines() if not x.startswith('[IPKernelApp]')]


def report(failed):
    "Show the cell and the traceback of each failure."
    for name, complaint in failed.items():
        print(f'\n{"=" * 20} {name} {"=" * 20}', *lines_of(complaint), sep='\n', file=sys.stderr)
    if failed: print(f'\n{len(failed)} notebooks failed: {", ".join(failed)}', file=sys.stderr)
    return int(bool(failed))


def stale(paths): # those whose stored outputs do not fit their inputs
    known = json.loads(EXECUTED.read_text()) if EXECUTED.exists() else {}
    return [p for p in paths if known.get(p.stem) != fingerprint(p, live=False)]


def in_place(paths):
    "Execute nbs/ itself, clean and export as nbdev does, and note what the outputs rest on."
    from nbdev.clean import nbdev_clean
    from nbdev.doclinks import nbdev_export
    os.chdir(ROOT)
    nbdev_export()
    failed = execute_all([(p, p) for p in paths], live=False)
    nbdev_clean()
    nbdev_export()
    known = json.loads(EXECUTED.read_text()) if EXECUTED.exists() else {}
    known |= {p.stem: fingerprint(p, live=False) for p in paths if p.stem not in failed}
    names = sorted(p.stem for p in NBS.glob('[0-9]*.ipynb'))
    write_whole(EXECUTED, json.dumps({n: known[n] for n in names if n in known}, indent=1) + '\n')
    return report(failed)


def bring_up_to_date(paths, anew):
    "{name: file} of the pages, executed where their inputs changed; {name: complaint} of those that failed."
    stored = json.loads(EXECUTED.read_text()) if EXECUTED.exists() else {}
    targets = {p: CACHE/f'{p.stem}.{fingerprint(p)}.ipynb' for p in paths}
    todo, kept = [], 0
    for p, t in targets.items():
        if t.exists() and not anew: continue
        if not anew and stored.get(p.stem) == fingerprint(p):
            with_stored_outputs(p, t)
            kept += 1
        else: todo.append((p, t))
    print(f'{len(paths)} notebooks: {len(todo)} to execute, {kept} as committed, '
          f'{len(paths) - len(todo) - kept} unchanged since they last were', flush=True)
    failed = execute_all(todo)
    for p in targets:
        if p.stem not in failed: continue
        targets[p] = targets[p].with_suffix('.failed.ipynb')       # shown as committed, and tried again next time
        with_stored_outputs(p, targets[p])
    for f in set(CACHE.glob('*')) - set(targets.values()): f.unlink()
    return {p.stem: t for p, t in targets.items()}, failed


def main():
    ap = argparse.ArgumentParser(description='Render the book, executing the notebooks whose inputs changed.')
    ap.add_argument('--anew', action='store_true', help='execute every notebook')
    ap.add_argument('--in-place', action='store_true', help='execute nbs/ itself, clean and export; render nothing')
    ap.add_argument('--only', default='', metavar='WORD', help='with --in-place: only what has this in its name')
    ap.add_argument('--failures', type=Path, help='file for the names and reasons of pages that failed, as JSON')
    ap.add_argument('--execute', nargs=2, metavar=('SOURCE', 'TARGET'), help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.execute: return execute_one(*map(Path, a.execute))
    paths = sorted(p for p in NBS.glob('[0-9]*.ipynb') if a.only in p.stem)
    if a.in_place: return in_place(paths if a.anew or a.only else stale(paths))
    files, failed = bring_up_to_date(paths, a.anew)
    report(failed)
    if a.failures: write_whole(a.failures, json.dumps({k: lines_of(v)[-1] for k, v in failed.items()}))
    print('rendering, about ten seconds', flush=True)
    return render(files) or int(bool(failed))


if __name__ == '__main__':
    try: sys.exit(main())
    except KeyboardInterrupt: sys.exit('\ninterrupted; nothing half-written, run again to go on')
