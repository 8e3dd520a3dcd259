"""make test: everything that must hold, each thing counted; the last line is "N passed, N failed".

  python scripts/gate.py               all of it
  python scripts/gate.py --only WORD   the checks whose name contains WORD, e.g. --only imports or --only 02_sgld
  python scripts/gate.py --workers 1   one notebook or test file at a time; default: one more than there are cores
  python scripts/gate.py --slow fail   a page that computes too long fails; default: a warning

The working tree is only read: cleaning and exporting happen in a copy. No clock decides: what is too slow is judged
by seconds of computing, scaled by what this machine needs for a fixed piece of work.
"""
import argparse
import ast
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
import traceback
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, LIB = ROOT/'nbs', ROOT/'jem_nb'
WITHOUT_MODULE = {'05_first_jem'}        # pages below 30 that export nothing
BY_HAND = {'__init__', '_modidx', 'compat'}  # modules of jem_nb that no notebook exports
NB_BYTES = 450_000
PAGE_CPU, TESTS_CPU = 120, 400 # seconds of computing on the reference machine that are enough for a page, a test file
STUCK = 45 * 60     # seconds without an end, after which a process is called stuck; nothing is near it
REFERENCE = 0.3     # seconds of computing of PROBE on the reference machine, two cores with AVX2
TRAINING = ('18_step', '19_train', '27_evaluate', '40_stability') # pages that train, run again as on another CPU
LONGEST = ('test_processes', '33_robustness', '00_energy', '19_train', 'test_interrupt', '30_hybrid', '40_stability',
           'test_bench', '28_bench', '44_noise', 'test_disk') # begun first, so that no core waits at the end
MACHINE = re.compile(r'(?<![\w.:/])/(?:root|home|tmp|work|Users|opt|usr|private|mnt|var)/[\w.-]')
ADDRESS = re.compile(r'\bat 0x[0-9a-f]{6,}')
BAR = re.compile(r'\d+%\|.*\||\bit/s\b|\bs/it\b')


# ---- reading notebooks ----

class Notebook:
    "One notebook, its cells with joined sources"
    def __init__(self, path):
        self.path, self.name = path, path.stem
        self.number = int(self.name[:2]) if self.name[:2].isdigit() else None
        self.cells = json.loads(path.read_text(encoding='utf-8'))['cells']
        for c in self.cells: c['source'] = ''.join(c['source'])
        self.code = [c for c in self.cells if c['cell_type'] == 'code']
        exps = [m[1] for c in self.code for m in re.finditer(r'^#\| *default_exp +(\S+)', c['source'], re.M)]
        self.module, self.n_exps = (exps[0] if exps else None), len(exps)


@cache
def notebooks(): return [Notebook(p) for p in sorted(NBS.glob('**/*.ipynb')) if '.ipynb_checkpoints' not in p.parts]


def directive(cell, word): return re.search(rf'^#\| *{word}\b', cell['source'], re.M)


def python_of(cell): # its syntax tree; lines of IPython's own are dropped
    return ast.parse('\n'.join(x for x in cell['source'].splitlines() if not re.match(r'\s*[%!?]', x)))


def texts(output):
    "Every piece of text that an output stores"
    for v in [output.get('text', ''), *(v for k, v in output.get('data', {}).items() if k.startswith('text/'))]:
        yield ''.join(v)


# ---- the checks: each yields complaints; none means passed ----

def ids_and_outputs():
    "notebooks: ids are names, files are small, outputs are stored and say nothing about the machine or the clock"
    for nb in notebooks():
        ids = [c.get('id', '') for c in nb.cells]
        for i in ids:
            if ids.count(i) > 1: yield f'{nb.name}: the id {i!r} stands twice'
            if not re.fullmatch(r'[a-z][a-z0-9]*(-[a-z0-9]+)*', i) or re.fullmatch(r'(?=.*\d)[0-9a-f]{6,}(-[0-9a-f]+)*', i):
                yield f'{nb.name}: the id {i!r} is not a name in kebab-case'
        if nb.path.stat().st_size >= NB_BYTES: yield f'{nb.name}: {nb.path.stat().st_size} bytes, {NB_BYTES} are allowed'
        if not any(c['outputs'] for c in nb.code): yield f'{nb.name}: no stored outputs; run make notebooks'
        for c in nb.code:
            where = f'{nb.name}, cell {c.get("id")}'
            last = (python_of(c).body or [None])[-1]
            if isinstance(last, ast.Expr) and not isinstance(last.value, (ast.Call, ast.Constant)) and not c['outputs'] \
                    and not c['source'].rstrip().endswith(';') and not directive(c, '(slow|hide|gpu|notest)'):
                yield f'{where}: ends in a value but stores no output; run make notebooks'
            for o in c['outputs']:
                if o['output_type'] == 'error': yield f'{where}: stores an error'
                if o.get('name') == 'stderr': yield f'{where}: stores stderr'
                for t in texts(o):
                    for what, pattern in [('a path of the machine', MACHINE), ('an object address', ADDRESS), ('a progress bar', BAR)]:
                        if m := pattern.search(t): yield f'{where}: stores {what}: {m[0]!r}'


def tree(folder, suffixes):
    "{relative path: bytes} of the files below"
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob('*'))
            if p.suffix in suffixes and not {'__pycache__', '.ipynb_checkpoints'} & set(p.parts)}


def in_sync():
    "sync: cleaning changes no notebook, and exporting them into an empty package gives the modules that are there"
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)/'copy'
        (tmp/'jem_nb').mkdir(parents=True)
        shutil.copytree(NBS, tmp/'nbs', ignore=shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__'))
        shutil.copy(ROOT/'settings.ini', tmp)
        for m in BY_HAND - {'_modidx'}: shutil.copy(LIB/f'{m}.py', tmp/'jem_nb')
        p = subprocess.run([sys.executable, '-c', 'from nbdev.clean import nbdev_clean; from nbdev.doclinks import nbdev_export\n'
                            'nbdev_clean(); nbdev_export()'], cwd=tmp, capture_output=True, text=True,
                           env={k: v for k, v in os.environ.items() if k != 'IN_TEST'})
        if p.returncode or 'Failed' in p.stderr: yield p.stderr.strip()[-2000:]
        for folder, suffix, what in [('nbs', '.ipynb', 'is not clean; run make notebooks'),
                                     ('jem_nb', '.py', 'differs from what the notebooks export; run make notebooks')]:
            here, made = tree(ROOT/folder, {suffix}), tree(tmp/folder, {suffix})
            for name in sorted(here.keys() | made.keys()):
                if here.get(name) != made.get(name):
                    yield f'{folder}/{name} ' + (what if name in here and name in made else
                                                 'comes from no notebook' if name in here else 'is missing')


def no_orphans():
    "modules: each is exported by exactly one notebook, and _modidx.py lists those and no other"
    exps = [nb.module for nb in notebooks() if nb.module]
    for m in {m for m in exps if exps.count(m) > 1}: yield f'{m} is exported by two notebooks'
    there = {p.relative_to(LIB).with_suffix('').as_posix() for p in LIB.rglob('*.py')} - BY_HAND
    for m in sorted(there ^ set(exps)): yield f'jem_nb/{m}.py ' + ('has no notebook' if m in there else 'has not been exported')
    space = {}
    exec((LIB/'_modidx.py').read_text(encoding='utf-8'), space)
    listed = {m.removeprefix('jem_nb.') for m in space['d']['syms']} - BY_HAND
    for m in sorted(listed ^ set(exps)): yield '_modidx.py ' + (f'lists {m}, which no notebook exports' if m in listed else f'lacks {m}')


def lint():
    "lint: ruff finds no undefined, unused or redefined name"
    p = subprocess.run([sys.executable, '-m', 'ruff', 'check', '--no-cache', '-q', '--output-format', 'concise', '--select', 'F821,F401,F811,E9',
                        '--per-file-ignores', '*/__init__.py:F401', 'jem_nb', 'scripts', 'tests'], cwd=ROOT, capture_output=True, text=True)
    if p.returncode: yield from (p.stdout + p.stderr).strip().splitlines()


def own_imports(body):
    "(module of jem_nb or '', is a star import) for each import of our own"
    for node in ast.walk(body):
        if isinstance(node, ast.Import):
            yield from ((a.name.partition('.')[2].split('.')[0], False) for a in node.names if a.name.split('.')[0] == 'jem_nb')
        elif isinstance(node, ast.ImportFrom):
            mod = node.module or ''
            if not node.level:
                if mod.split('.')[0] != 'jem_nb': continue
                mod = mod.partition('.')[2]
            star = any(a.name == '*' for a in node.names)
            yield from [(mod.split('.')[0], star)] if mod else [('' if star else a.name, star) for a in node.names]


def imports_downward():
    "imports: a notebook and its module import only from lower numbers, and never with a star"
    number = {nb.module: nb.number for nb in notebooks() if nb.module}
    bodies = [(f'{nb.name}, cell {c.get("id")}', nb.number, python_of(c)) for nb in notebooks() for c in nb.code]
    bodies += [(f'jem_nb/{m}.py', n, ast.parse((LIB/f'{m}.py').read_text(encoding='utf-8'))) for m, n in number.items() if (LIB/f'{m}.py').exists()]
    for where, n, body in bodies:
        for mod, star in own_imports(body):
            if star: yield f'{where}: star import of jem_nb{"." + mod if mod else ""}'
            if number.get(mod, -1) >= (n or 0) and mod in number: yield f'{where}: imports jem_nb.{mod}, which is not of a lower number'


def house_rules():
    "house: name, title, claim, default_exp, closing section; no cell is switched off"
    for nb in notebooks():
        if not re.fullmatch(r'\d\d_[a-z0-9_]+', nb.name): yield f'{nb.name}: a notebook is named NN_name'; continue
        first = nb.cells[0]
        if first['cell_type'] != 'markdown' or not re.match(r'# \S.*\n+> \S', first['source']):
            yield f'{nb.name}: does not open with "# Title" and "> claim"'
        rooms = nb.number < 30 and nb.name not in WITHOUT_MODULE
        if nb.n_exps != int(rooms): yield f'{nb.name}: has {nb.n_exps} default_exp, should have {int(rooms)}'
        if not rooms and any(directive(c, 'exports?') for c in nb.code): yield f'{nb.name}: exports, but only notebooks below 30 do'
        heads = [h.strip() for c in nb.cells if c['cell_type'] == 'markdown' for h in re.findall(r'^## +(.+)$', c['source'], re.M)]
        closing = ('What we now have',) if rooms else ('What this shows, and what it does not', 'What we now have')
        if not heads or heads[-1] not in closing: yield f'{nb.name}: does not close with "## {closing[0]}"'
        if 30 <= nb.number < 40 and closing[0] not in heads: yield f'{nb.name}: lacks "## {closing[0]}"'
        for c in nb.code:
            if re.search(r'^#\| *eval: *false', c['source'], re.M | re.I): yield f'{nb.name}, cell {c.get("id")}: eval: false'


# ---- legibility: what is measured of the house's rules for cells and lines ----

LINE, LESSON, FOLDED, EXPORTED = 100, 15, 25, 40 # characters of a line; lines of a cell
REFUSES = {'test_fail', 'ExceptionExpected', 'raises', 'assertRaises', 'expect_fail'}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def has_inside(node, kinds):
    "Whether a node of one of these kinds lies below this one."
    return any(isinstance(n, kinds) for n in ast.walk(node) if n is not node)


def crowded(node):
    "Whether a dict of more than four fields has several of them on a line."
    if isinstance(node, ast.Dict): fields = node.values
    elif isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'dict':
        fields = [k.value for k in node.keywords]
    else: return False
    return len(fields) > 4 and len({f.lineno for f in fields}) < len(fields)


def nested(tree):
    "(line, what) of each expression that is too dense to be read."
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS) and has_inside(node, COMPREHENSIONS):
            yield node.lineno, 'a comprehension inside a comprehension'
        if isinstance(node, ast.IfExp) and has_inside(node, ast.IfExp):
            yield node.lineno, 'a conditional expression inside another'
        if crowded(node): yield node.lineno, 'a dict of more than four fields, not one a line'


def semicolons(source):
    "The lines with a semicolon between statements or after one."
    source = '\n'.join('' if re.match(r'\s*[%!]', x) else x for x in source.splitlines()) + '\n'
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sorted({t.start[0] for t in tokens if t.type == tokenize.OP and t.string == ';'})


def dense(where, source, tree):
    "Complaints about a piece of code."
    for i, line in enumerate(source.splitlines(), 1):
        if len(line) > LINE and 'http' not in line:
            yield f'{where}, line {i}: {len(line)} characters, {LINE} are allowed'
    for i in semicolons(source): yield f'{where}, line {i}: a semicolon; one statement a line'
    for i, what in sorted(nested(tree)): yield f'{where}, line {i}: {what}'


def cell_limit(cell):
    "(kind, most lines) of a code cell."
    if directive(cell, 'exports?'): return 'an exported cell', EXPORTED
    if directive(cell, 'hide(-input)?'): return 'a folded cell', FOLDED
    return 'an example cell', LESSON


def only_sets_up(tree):
    "Whether a cell only imports, and calls what sets the imported up."
    return all(isinstance(n, (ast.Import, ast.ImportFrom, ast.Expr)) for n in tree.body)


def calls(tree):
    "The names of what is called, one for each call."
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield getattr(node.func, 'attr', getattr(node.func, 'id', ''))


def legible():
    "legibility: short lines and cells, one statement a line, nothing nested, refusals in tests/"
    for nb in notebooks():
        refusals = 0
        for c in nb.code:
            where, body = f'{nb.name}, cell {c.get("id")}', python_of(c)
            yield from dense(where, c['source'], body)
            lines = [x for x in c['source'].splitlines() if x.strip() and not x.startswith('#|')]
            kind, most = cell_limit(c)
            if len(lines) > most and not only_sets_up(body): yield f'{where}: {len(lines)} lines, {kind} has at most {most}'
            named = list(calls(body))
            refusals += sum(n in REFUSES for n in named)
            if {'display_markdown', 'Markdown'} & set(named):
                yield f'{where}: composes prose; write it, and check its numbers in the cell claims'
        if refusals > 1: yield f'{nb.name}: {refusals} refusals; keep one at most, the others go to tests/'
        if nb.number >= 30 and 'claims' not in [c.get('id') for c in nb.code]:
            yield f'{nb.name}: no hidden cell claims that checks its prose against the records'
    for folder in ('scripts', 'tests', 'jem_nb'):
        for f in sorted((ROOT/folder).rglob('*.py')):
            source = f.read_text(encoding='utf-8')
            if folder == 'jem_nb' and f.stem not in BY_HAND: # its cells were looked at above
                source = '#' + source.partition('\n# %% ../nbs')[2]
            if f.name != '_modidx.py':
                yield from dense(f.relative_to(ROOT), source, ast.parse(source))


def readme():
    "readme: its results block is what the records render"
    p = subprocess.run([sys.executable, '-m', 'jem_nb.results', 'readme', '--check'], cwd=ROOT, capture_output=True, text=True)
    if p.returncode: yield (p.stdout + p.stderr).strip()[-2000:]


CHECKS = [ids_and_outputs, in_sync, no_orphans, lint, imports_downward, house_rules, legible, readme]


# ---- what is run ----

PROBE = """
import os, time, torch
torch.set_num_threads(1)
x, w = torch.ones(16, 32, 16, 16), torch.ones(32, 32, 3, 3)
a = torch.ones(384, 384)
best = 1e9
for _ in range(3):
    t = time.process_time()
    for _ in range(40): torch.conv2d(x, w, padding=1)
    for _ in range(40): a @ a
    sum(i * i for i in range(3_000_000))
    best = min(best, time.process_time() - t)
print(best)
"""


def environment(**more):
    "What every notebook and test file runs in: one thread each, nothing drawn on a screen, no live run."
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'PASSIVE', 'MPLBACKEND': 'agg',
            'JEM_NB_LIVE': '0', 'TQDM_DISABLE': '1', 'PYTHONDONTWRITEBYTECODE': '1', **more}


def slowness():
    "How many times as long as the reference machine this one computes for a fixed piece of work; at least 1."
    p = subprocess.run([sys.executable, '-c', PROBE], env=environment(), capture_output=True, text=True, check=True)
    return max(1., float(p.stdout) / REFERENCE)


OTHER_CPU = dict(ONEDNN_MAX_CPU_ISA='AVX2', ATEN_CPU_CAPABILITY='avx2')


def has_more_than_avx2():
    "Whether OTHER_CPU makes a difference on this machine."
    code = 'import torch; print(torch.backends.cpu.get_cpu_capability())'
    p = subprocess.run([sys.executable, '-c', code], env=environment(), capture_output=True, text=True, check=True)
    return p.stdout.strip() not in ('AVX2', 'DEFAULT', 'NO AVX')


@dataclass
class Job:
    "A notebook or a file of tests, to be run in a process of its own."
    path: Path
    under: dict = field(default_factory=dict) # variables of the environment that stand for another machine

    @property
    def is_notebook(self): return self.path.suffix == '.ipynb'

    @property
    def name(self):
        what = 'notebook' if self.is_notebook else 'tests'
        return f'{what} {self.path.stem}' + ' under AVX2' * bool(self.under)


# A job runs in a child that is forked from this process, which has imported what all of them need and computed
# nothing: the seconds of an import are spent once. A job under another CPU's variables starts from nothing.

def import_for_all():
    "What every job imports, once."
    import matplotlib
    matplotlib.use('agg')
    import nbdev.test, numpy, pytest, scipy.stats, sklearn.metrics, torch # noqa: F401
    import matplotlib.pyplot # noqa: F401


def notebook_status(path): # of nbdev's test of one notebook, in this process
    from nbdev.config import get_config
    from nbdev.test import test_nb
    ok, _ = test_nb(path, skip_flags=get_config().tst_flags.split(), basepath=str(ROOT))
    return int(not ok)


def tests_status(path, xml): # of pytest on one file, in this process
    import pytest
    return int(pytest.main(['-q', '-p', 'no:cacheprovider', f'--junitxml={xml}', str(path)]))


def do_job(job, xml):
    "The exit status of a job, in this process."
    sys.path.insert(0, str(ROOT))
    return notebook_status(job.path) if job.is_notebook else tests_status(job.path, xml)


def start(job, folder):
    "The process number of a job; what it says goes to a file in the folder."
    log, xml = folder/'log', folder/'report.xml'
    sys.stdout.flush()
    if pid := os.fork(): return pid
    status = 1
    try:
        os.setsid()
        out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        for fd in (1, 2): os.dup2(out, fd)
        if job.under: os.execve(sys.executable, [sys.executable, __file__, '--job', str(job.path)], environment(**job.under))
        status = do_job(job, xml)
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def plain(text, most=6000): # the end of what a process said, without colours
    return re.sub(r'\x1b\[[\d;]*m', '', text).strip()[-most:]


def results_of(job, folder, status):
    "[(name, complaint or None)] of a job that has ended; status None: it was stuck."
    said = plain((folder/'log').read_text(errors='replace')) or f'exit status {status}'
    if status is None: said = f'stuck: no end after {STUCK // 60} minutes. It said:\n{said}'
    xml = folder/'report.xml'
    found = list(ET.parse(xml).iter('testcase')) if xml.exists() else []
    results = [(f'{job.path.stem}::{c.get("name")}', failure(c)) for c in found]
    if status == 0: return results or [(job.name, None)]
    if all(c is None for _, c in results): results.append((job.name, said)) # it failed, and no test says why
    return results


def run_jobs(jobs, workers):
    "Run all, so many at a time; yields (job, results, seconds of computing with all its children) as they end."
    todo, running, stuck = list(jobs), {}, set()
    with tempfile.TemporaryDirectory() as tmp:
        try:
            while todo or running:
                while todo and len(running) < workers:
                    job, folder = todo.pop(0), Path(tmp)/f'{len(todo)}'
                    folder.mkdir()
                    running[start(job, folder)] = job, folder, time.monotonic()
                pid, status, used = os.wait4(-1, os.WNOHANG)
                if not pid:
                    time.sleep(.1)
                    late = [p for p, (_, _, began) in running.items() if time.monotonic() > began + STUCK]
                    for p in set(late) - stuck: os.killpg(p, signal.SIGKILL)
                    stuck |= set(late)
                    continue
                job, folder, _ = running.pop(pid)
                code = None if pid in stuck else os.waitstatus_to_exitcode(status)
                yield job, results_of(job, folder, code), used.ru_utime + used.ru_stime
        finally:
            for pid in running: os.killpg(pid, signal.SIGKILL)


def failure(case): # of a test in pytest's report, or None
    bad = next((e for e in case if e.tag in ('failure', 'error')), None)
    return None if bad is None else bad.get('message', '') + '\n' + (bad.text or '')


def jobs_for(only):
    "What has `only` in its name, the longest first."
    paths = [nb.path for nb in notebooks()] + sorted((ROOT/'tests').glob('test_*.py'))
    found = [Job(p) for p in paths]
    if has_more_than_avx2(): found += [Job(nb.path, OTHER_CPU) for nb in notebooks() if nb.name in TRAINING]
    rank = {name: i for i, name in enumerate(LONGEST)}
    return sorted((j for j in found if only in j.name), key=lambda j: rank.get(j.path.stem, len(rank)))


def static_checks(only, tell):
    "The checks that run nothing."
    for check in CHECKS:
        if only not in check.__doc__: continue
        try: found = list(check())
        except Exception as e: found = [f'{type(e).__name__}: {e}']
        tell(check.__doc__, '\n'.join(found) or None)


def options():
    ap = argparse.ArgumentParser(description='Check, execute and test everything.')
    ap.add_argument('--only', default='', metavar='WORD', help='only what has this in its name')
    ap.add_argument('--workers', type=int, default=os.cpu_count() + 1,
                    help='jobs at a time (default: one more than cores, since some wait for processes of their own)')
    ap.add_argument('--job', type=Path, help=argparse.SUPPRESS) # one notebook, in this process
    ap.add_argument('--slow', choices=('warn', 'fail'), default='warn', help='what a page is that computes too long')
    return ap.parse_args()


def main():
    a, tally, late, began = options(), [], [], time.time()
    os.environ.update(environment())
    if a.job: return do_job(Job(a.job), None)

    def tell(name, complaint, seconds=None):
        tally.append(complaint is None)
        cpu = '' if seconds is None else f'  ({seconds:.0f} s of computing)'
        print(f'{"ok  " if complaint is None else "FAIL"}  {name}{cpu}', flush=True)
        if complaint: print('      ' + complaint.replace('\n', '\n      '), flush=True)

    static_checks(a.only, tell)
    todo = jobs_for(a.only)
    scale = slowness() if todo else 1.
    def enough(job): return scale * (PAGE_CPU if job.is_notebook else TESTS_CPU)
    if todo: import_for_all()
    for job, results, seconds in run_jobs(todo, a.workers):
        for name, complaint in results: tell(name, complaint, seconds if len(results) == 1 else None)
        if seconds > enough(job): late.append((job.name, seconds, enough(job)))
    for name, seconds, allowed in late:
        words = f'{name} computes for {seconds:.0f} s; {allowed:.0f} are meant to be enough (this machine: {scale:.1f} times the reference)'
        if a.slow == 'fail': tell('speed', words)
        else: print(f'slow  {words}', flush=True)
    minutes = (time.time() - began) / 60
    print(f'{minutes:.1f} minutes; {len(todo)} notebooks and test files run, {a.workers} at a time')
    print(f'{sum(tally)} passed, {len(tally) - sum(tally)} failed')
    return int(not all(tally) or not tally)


if __name__ == '__main__':
    try: sys.exit(main())
    except KeyboardInterrupt: sys.exit('\ninterrupted')
