"""make test: everything that must hold, each thing counted; the last line is "N passed, N failed".

  python scripts/gate.py               all of it
  python scripts/gate.py --only WORD   what has WORD in its name, e.g. imports or 02_sgld
  python scripts/gate.py --workers 1   one notebook or test file at a time;
                                       default: one more than there are cores
  python scripts/gate.py --slow fail   a page that computes too long fails; default: a warning

The working tree is only read: cleaning and exporting happen in a copy. Whether a page is too
slow is judged by its seconds of computing and not by the clock. Those seconds are scaled by
what this machine needs for a fixed piece of work.
"""
import argparse
import ast
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, LIB = ROOT/'nbs', ROOT/'jem_nb'
# pages outside the experiments that export nothing
WITHOUT_MODULE = {'05_first_jem', '07_temperature', '64_smoothness', '68_few_labels',
                  '69_cifar100'}
EXPERIMENTS = *range(30, 51), *range(70, 90) # pages that export nothing; so does the summary
TRUST = 60                                   # from here on a page may export and measure
BY_HAND = {'__init__', '__main__', '_modidx', 'compat'}  # modules that no notebook exports
NB_BYTES = 450_000                           # most bytes of a notebook file

# Seconds of computing that are enough for a page and for a test file, and the seconds that
# PROBE takes, all on the reference machine: two cores with AVX2.
PAGE_CPU, TESTS_CPU, REFERENCE = 150, 400, .32
STUCK = 45 * 60  # a process that has not ended after so many seconds is called stuck

# Pages that train; where the CPU has more than AVX2 they run a second time, without it.
TRAINING = ('18_step', '19_train', '27_evaluate', '40_stability')
# What takes longest is started first, so that no core waits at the end.
LONGEST = (
    'test_processes', 'test_live_pages', '05_first_jem', '19_train', 'test_interrupt',
    '40_stability', 'test_bench', '28_bench', '33_robustness', '44_noise', 'test_disk',
)

# What a stored output must not hold: it would differ from machine to machine.
FOLDERS = 'root|home|tmp|work|Users|opt|usr|private|mnt|var'
NOT_STORED = {
    'a path of the machine': re.compile(rf'(?<![\w.:/])/(?:{FOLDERS})/[\w.-]'),
    'an object address': re.compile(r'\bat 0x[0-9a-f]{6,}'),
    'a progress bar': re.compile(r'\d+%\|.*\||\bit/s\b|\bs/it\b'),
}


# ---- reading notebooks ----

class Notebook:
    "One notebook, with the source of each cell joined into one string."
    def __init__(self, path):
        self.path, self.name = path, path.stem
        self.number = int(self.name[:2]) if self.name[:2].isdigit() else None
        self.cells = json.loads(path.read_text(encoding='utf-8'))['cells']
        for cell in self.cells: cell['source'] = ''.join(cell['source'])
        self.code = self.of_type('code')
        self.markdown = self.of_type('markdown')
        exports = []
        for cell in self.code:
            exports += re.findall(r'^#\| *default_exp +(\S+)', cell['source'], re.M)
        self.module = exports[0] if exports else None
        self.n_exports = len(exports)

    def of_type(self, wanted): return [c for c in self.cells if c['cell_type'] == wanted]

    def where(self, cell): return f'{self.name}, cell {cell.get("id")}'

    @property
    def ids(self): return [c.get('id', '') for c in self.cells]


@cache
def notebooks():
    "All notebooks, by number."
    paths = sorted(NBS.glob('**/*.ipynb'))
    return [Notebook(p) for p in paths if '.ipynb_checkpoints' not in p.parts]


def directive(cell, word):
    "Whether a cell has the nbdev directive `#| word`; the word may be a regular expression."
    return re.search(rf'^#\| *{word}\b', cell['source'], re.M)


def python_of(cell):
    "The syntax tree of a code cell, without the lines that only IPython understands."
    lines = cell['source'].splitlines()
    return ast.parse('\n'.join(x for x in lines if not re.match(r'\s*[%!?]', x)))


def texts(output):
    "Every piece of text that an output stores."
    yield ''.join(output.get('text', ''))
    for kind, value in output.get('data', {}).items():
        if kind.startswith('text/'): yield ''.join(value)


def python_said(*words, **how):
    "A Python that has run with these words, its output kept as text."
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **how)


# ---- the checks: each yields complaints; none means passed; its docstring is its name ----

def ids_and_outputs():
    ("notebooks: ids are names, files are small, outputs are stored "
     "and say nothing about the machine or the clock")
    for nb in notebooks():
        yield from bad_ids(nb)
        size = nb.path.stat().st_size
        if size >= NB_BYTES: yield f'{nb.name}: {size} bytes, {NB_BYTES} are allowed'
        if not any(c['outputs'] for c in nb.code):
            yield f'{nb.name}: no stored outputs; run make notebooks'
        for cell in nb.code:
            if lacks_its_value(cell):
                yield f'{nb.where(cell)}: ends in a value but stores no output; run make notebooks'
            for output in cell['outputs']: yield from bad_output(output, nb.where(cell))


def bad_ids(nb):
    "Complaints about the ids of cells: each stands once and is made of words, not of digits."
    for i in nb.ids:
        if nb.ids.count(i) > 1: yield f'{nb.name}: the id {i!r} stands twice'
        kebab = re.fullmatch(r'[a-z][a-z0-9]*(-[a-z0-9]+)*', i)
        made_up = re.fullmatch(r'(?=.*\d)[0-9a-f]{6,}(-[0-9a-f]+)*', i)
        if made_up or not kebab: yield f'{nb.name}: the id {i!r} is not a name in kebab-case'


def lacks_its_value(cell):
    "Whether a cell ends in a value that should be shown below it, and stores no output."
    statements = python_of(cell).body
    if cell['outputs'] or not statements or not isinstance(statements[-1], ast.Expr): return False
    if isinstance(statements[-1].value, (ast.Call, ast.Constant)): return False  # may be None
    silenced = cell['source'].rstrip().endswith(';')
    return not silenced and not directive(cell, '(slow|hide|gpu|notest)')


def bad_output(output, where):
    "Complaints about one stored output."
    if output['output_type'] == 'error': yield f'{where}: stores an error'
    if output.get('name') == 'stderr': yield f'{where}: stores stderr'
    for text in texts(output):
        for what, pattern in NOT_STORED.items():
            if m := pattern.search(text): yield f'{where}: stores {what}: {m[0]!r}'


def in_sync():
    ("sync: cleaning changes no notebook, and exporting them into an empty package "
     "gives the modules that are there")
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp)/'copy'
        yield from export_afresh(copy)
        yield from differences('nbs', '.ipynb', copy, 'is not clean; run make notebooks')
        yield from differences('jem_nb', '.py', copy,
                               'differs from what the notebooks export; run make notebooks')


def export_afresh(copy):
    "Copy the notebooks and clean and export them there; what nbdev complains of."
    (copy/'jem_nb').mkdir(parents=True)
    unwanted = shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__')
    shutil.copytree(NBS, copy/'nbs', ignore=unwanted)
    shutil.copy(ROOT/'settings.ini', copy)
    for module in BY_HAND - {'_modidx'}: shutil.copy(LIB/f'{module}.py', copy/'jem_nb')
    code = ('from nbdev.clean import nbdev_clean\n'
            'from nbdev.doclinks import nbdev_export\n'
            'nbdev_clean()\n'
            'nbdev_export()')
    variables = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}  # nbdev then does nothing
    p = python_said('-c', code, cwd=copy, env=variables)
    if p.returncode or 'Failed' in p.stderr: yield p.stderr.strip()[-2000:]


def files_below(folder, suffix):
    "{relative path: bytes} of the files of a kind, without those that tools have left."
    found = {}
    for path in sorted(folder.rglob(f'*{suffix}')):
        if not {'__pycache__', '.ipynb_checkpoints'} & set(path.parts):
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def differences(folder, suffix, copy, what):
    "Complaints about files that differ from those of the copy; `what`: said of such a file."
    here, made = files_below(ROOT/folder, suffix), files_below(copy/folder, suffix)
    for name in sorted(here.keys() | made.keys()):
        if name not in made: yield f'{folder}/{name} comes from no notebook'
        elif name not in here: yield f'{folder}/{name} is missing'
        elif here[name] != made[name]: yield f'{folder}/{name} {what}'


def no_orphans():
    "modules: each is exported by exactly one notebook, and _modidx.py lists those and no other"
    exported = [nb.module for nb in notebooks() if nb.module]
    for m in {m for m in exported if exported.count(m) > 1}:
        yield f'{m} is exported by two notebooks'
    files = {p.relative_to(LIB).with_suffix('').as_posix() for p in LIB.rglob('*.py')} - BY_HAND
    for m in sorted(files ^ set(exported)):
        what = 'has no notebook' if m in files else 'has not been exported'
        yield f'jem_nb/{m}.py {what}'
    index = {}
    exec((LIB/'_modidx.py').read_text(encoding='utf-8'), index)
    listed = {m.removeprefix('jem_nb.') for m in index['d']['syms']} - BY_HAND
    for m in sorted(listed ^ set(exported)):
        what = f'lists {m}, which no notebook exports' if m in listed else f'lacks {m}'
        yield f'_modidx.py {what}'


def lint():
    "lint: ruff finds no undefined, unused or redefined name"
    return ruff('F821,F401,F811,E9', 'jem_nb', 'scripts', 'tests',
                options=['--per-file-ignores', '*/__init__.py:F401'])


def ruff(rules, *paths, options=()):
    "What ruff complains of, a line each."
    p = python_said('-m', 'ruff', 'check', '--no-cache', '-q', '--output-format', 'concise',
                    '--select', rules, *options, *paths, cwd=ROOT)
    return (p.stdout + p.stderr).strip().splitlines() if p.returncode else []


def imports_downward():
    "imports: a notebook and its module import only from lower numbers, and never with a star"
    number_of = {nb.module: nb.number for nb in notebooks() if nb.module}
    for where, number, tree in importing_code(number_of):
        for module, star in own_imports(tree):
            if star:
                name = f'jem_nb.{module}' if module else 'jem_nb'
                yield f'{where}: star import of {name}'
            if module in number_of and number_of[module] >= (number or 0):
                yield f'{where}: imports jem_nb.{module}, which is not of a lower number'


def importing_code(number_of):
    "(where, number, syntax tree) of each code cell and of each exported module."
    for nb in notebooks():
        for cell in nb.code: yield nb.where(cell), nb.number, python_of(cell)
    for module, number in number_of.items():
        file = LIB/f'{module}.py'
        if file.exists():
            yield f'jem_nb/{module}.py', number, ast.parse(file.read_text(encoding='utf-8'))


def own_imports(tree):
    "(module of jem_nb or '', whether it is a star import) for each import of our own."
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split('.')[0] == 'jem_nb': yield below_jem_nb(alias.name), False
        elif isinstance(node, ast.ImportFrom):
            yield from own_imports_from(node)


def below_jem_nb(name):
    "'data' of 'jem_nb.data.x'; '' of 'jem_nb'."
    return name.partition('.')[2].split('.')[0]


def own_imports_from(node):
    "The same for a statement `from ... import ...`."
    module = node.module or ''
    if node.level: module = f'jem_nb.{module}'  # a relative import
    if module.split('.')[0] != 'jem_nb': return
    star = any(a.name == '*' for a in node.names)
    if below_jem_nb(module): yield below_jem_nb(module), star
    else:
        for alias in node.names: yield '' if star else alias.name, star


SHOWS, CLOSES = 'What this shows, and what it does not', 'What we now have'


def house_rules():
    "house: name, title, claim, default_exp, closing section; no cell is switched off"
    for nb in notebooks():
        if not re.fullmatch(r'\d\d_[a-z0-9_]+', nb.name):
            yield f'{nb.name}: a notebook is named NN_name'
            continue
        first = nb.cells[0]
        opens_well = re.match(r'# \S.*\n+> \S', first['source'])
        if first['cell_type'] != 'markdown' or not opens_well:
            yield f'{nb.name}: does not open with "# Title" and "> claim"'
        exports = nb.number not in EXPERIMENTS and nb.number < 90
        has_module = exports and nb.name not in WITHOUT_MODULE
        yield from bad_exports(nb, has_module)
        yield from bad_closing(nb, has_module)
        for cell in nb.code:
            if re.search(r'^#\| *eval: *false', cell['source'], re.M | re.I):
                yield f'{nb.where(cell)}: eval: false'


def bad_exports(nb, has_module):
    "Complaints about a notebook that should export a module and does not, or the reverse."
    wanted = int(has_module)
    if nb.n_exports != wanted:
        yield f'{nb.name}: has {nb.n_exports} default_exp, should have {wanted}'
    if not has_module and any(directive(c, 'exports?') for c in nb.code):
        yield f'{nb.name}: exports, but experiments and the summary do not'


def bad_closing(nb, has_module):
    "Complaints about the last section of a notebook."
    heads = []
    for cell in nb.markdown: heads += re.findall(r'^## +(.+)$', cell['source'], re.M)
    heads = [h.strip() for h in heads]
    is_instrument = has_module and nb.number < TRUST # those of the room of trust measure, too
    closing = [CLOSES] if is_instrument else [SHOWS, CLOSES]
    if not heads or heads[-1] not in closing:
        yield f'{nb.name}: does not close with "## {closing[0]}"'
    if 30 <= nb.number < 40 and closing[0] not in heads:
        yield f'{nb.name}: lacks "## {closing[0]}"'


# ---- legibility: what is measured of the house's rules for cells and lines ----

LINE, LESSON, FOLDED, EXPORTED = 100, 15, 25, 40  # characters of a line; lines of a cell
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


def dense(where, tree):
    "Complaints about the expressions of a piece of code."
    for i, what in sorted(nested(tree)): yield f'{where}, line {i}: {what}'


def long_lines():
    "What ruff says of lines and semicolons; a module's lines are those of its notebook's cells."
    by_hand = sorted(f'jem_nb/{m}.py' for m in BY_HAND - {'_modidx'})
    return ruff('E501,E702,E703', 'nbs', 'scripts', 'tests', 'setup.py', *by_hand,
                options=['--line-length', str(LINE)])


def cell_limit(cell):
    "(kind, most lines) of a code cell."
    if directive(cell, 'exports?'): return 'an exported cell', EXPORTED
    if directive(cell, 'hide(-input)?'): return 'a folded cell', FOLDED
    return 'an example cell', LESSON


def import_lines(tree):
    "The numbers of the lines that import; they do not count against a cell's length."
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            lines |= set(range(node.lineno, node.end_lineno + 1))
    return lines


def calls(tree):
    "The names of what is called, one for each call."
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield getattr(node.func, 'attr', getattr(node.func, 'id', ''))


def legible():
    "legibility: short lines and cells, one statement a line, nothing nested, refusals in tests/"
    yield from long_lines()
    for nb in notebooks():
        for cell in nb.code: yield from crowded_cell(cell, nb.where(cell))
        named = [name for cell in nb.code for name in calls(python_of(cell))]
        refusals = sum(n in REFUSES for n in named)
        if refusals > 1:
            yield f'{nb.name}: {refusals} refusals; keep one at most, the others go to tests/'
        has_claims = any(cell.get('id') == 'claims' for cell in nb.code)
        reads = any('read_records' in cell['source'] for cell in nb.code)
        in_use = 50 <= nb.number < TRUST # those pages may show a tool and measure nothing
        if nb.number >= 30 and not has_claims and (reads or not in_use):
            yield f'{nb.name}: no hidden cell claims that checks its prose against the records'
    for folder in ('scripts', 'tests', 'jem_nb'):
        for path in sorted((ROOT/folder).rglob('*.py')):
            if path.name == '_modidx.py': continue
            tree = ast.parse(path.read_text(encoding='utf-8'))
            yield from dense(path.relative_to(ROOT), tree)


def crowded_cell(cell, where):
    "Complaints about the lines of a code cell, their number, and prose that it composes."
    tree = python_of(cell)
    yield from dense(where, tree)
    imports = import_lines(tree)
    lines = [x for i, x in enumerate(cell['source'].splitlines(), 1)
             if x.strip() and not x.startswith('#|') and i not in imports]
    kind, most = cell_limit(cell)
    if len(lines) > most:
        yield f'{where}: {len(lines)} lines, {kind} has at most {most}'
    exported = directive(cell, 'export') # the page of the demo has text of its own
    if not exported and {'display_markdown', 'Markdown'} & set(calls(tree)):
        yield f'{where}: composes prose; write it, and check its numbers in the cell claims'


def readme():
    "readme: its results block is what the records render"
    p = python_said('-m', 'jem_nb.results', 'readme', '--check', cwd=ROOT)
    if p.returncode: yield (p.stdout + p.stderr).strip()[-2000:]


CHECKS = [
    ids_and_outputs, in_sync, no_orphans, lint, imports_downward, house_rules, legible, readme,
]


# ---- what is run ----

PROBE = """
import time, torch
torch.set_num_threads(1)
conv = torch.nn.functional.conv2d
x, w = torch.rand(16, 32, 8, 8).requires_grad_(), torch.rand(32, 32, 3, 3)
best = 1e9
for _ in range(3): # as the pages do: a network forward and backward, and some Python
    t = time.process_time()
    for _ in range(100):
        y = conv(torch.nn.functional.silu(conv(x, w, padding=1)), w, padding=1)
        torch.autograd.grad(y.logsumexp(1).sum(), x)
    sum(i * i for i in range(1_000_000))
    best = min(best, time.process_time() - t)
print(best)
"""


def environment(**more):
    "The variables of every job: one thread, nothing drawn on a screen, no live run, no bars."
    return {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'OMP_WAIT_POLICY': 'PASSIVE',
        'MPLBACKEND': 'agg',
        'JEM_NB_LIVE': '0',
        'TQDM_DISABLE': '1',
        'PYTHONDONTWRITEBYTECODE': '1',
        **more,
    }


def slowness():
    "How many times as long as the reference machine this one computes for PROBE; at least 1."
    p = python_said('-c', PROBE, env=environment(), check=True)
    return max(1., float(p.stdout) / REFERENCE)


OTHER_CPU = dict(ONEDNN_MAX_CPU_ISA='AVX2', ATEN_CPU_CAPABILITY='avx2')


def has_more_than_avx2():
    "Whether OTHER_CPU makes a difference on this machine."
    code = 'import torch; print(torch.backends.cpu.get_cpu_capability())'
    p = python_said('-c', code, env=environment(), check=True)
    return p.stdout.strip() not in ('AVX2', 'DEFAULT', 'NO AVX')


@dataclass
class Job:
    "A notebook or a file of tests, to be run in a process of its own."
    path: Path
    under: dict = field(default_factory=dict)  # variables that stand for another machine

    @property
    def is_notebook(self): return self.path.suffix == '.ipynb'

    @property
    def name(self):
        what = 'notebook' if self.is_notebook else 'tests'
        return f'{what} {self.path.stem}' + ' under AVX2' * bool(self.under)

    @property
    def enough(self):
        "Seconds of computing that are enough on the reference machine."
        return PAGE_CPU if self.is_notebook else TESTS_CPU


def jobs_for(only):
    "What has `only` in its name, the longest first."
    pages = notebooks()
    jobs = [Job(nb.path) for nb in pages]
    jobs += [Job(path) for path in sorted((ROOT/'tests').glob('test_*.py'))]
    if has_more_than_avx2():
        jobs += [Job(nb.path, OTHER_CPU) for nb in pages if nb.name in TRAINING]
    rank = {name: i for i, name in enumerate(LONGEST)}
    chosen = [job for job in jobs if only in job.name]
    return sorted(chosen, key=lambda job: rank.get(job.path.stem, len(rank)))


# ---- one job, in a child of this process ----

# A job runs in a child that is forked from this process, which has imported what all of them
# need and computed nothing: the seconds of an import are spent once. A job under another CPU's
# variables starts a Python of its own, since torch reads them when it is imported.

def import_for_all():
    "What every job imports, once: what others have written, and of jem_nb its import guard alone."
    import matplotlib
    matplotlib.use('agg')
    sys.path.insert(0, str(ROOT))
    import jem_nb  # noqa: F401
    import nbdev.test, numpy, pytest, torch  # noqa: F401
    for name in ('torchvision', 'torchmetrics.functional.classification', 'torchmetrics.image.fid',
                 'foolbox', 'torch._dynamo', 'sklearn.datasets', 'sklearn.metrics',
                 'sklearn.mixture', 'scipy.stats', 'matplotlib.pyplot', 'seaborn'):
        importlib.import_module(name)


def start(job, folder):
    "The process number of a child that does a job; its files go to the folder."
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0: be_the_child(job, folder)
    return pid


def be_the_child(job, folder):
    "Do a job, write what it says to a file, and end this process with its status."
    status = 1
    try:
        os.setsid()
        log = os.open(folder/'log', os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        for output in (1, 2): os.dup2(log, output)
        if job.under:
            words = [sys.executable, __file__, '--job', str(job.path)]
            os.execve(sys.executable, words, environment(**job.under))
        status = do_job(job, folder/'report.xml')
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def do_job(job, report):
    "The exit status of a job, in this process; tests write their results to the file `report`."
    sys.path.insert(0, str(ROOT))
    return notebook_status(job.path) if job.is_notebook else tests_status(job.path, report)


def notebook_status(path):
    "Exit status of nbdev's test of one notebook, in this process."
    from nbdev.config import get_config
    from nbdev.test import test_nb
    ok, _ = test_nb(path, skip_flags=get_config().tst_flags.split(), basepath=str(ROOT))
    return int(not ok)


def tests_status(path, report):
    "Exit status of pytest on one file, in this process."
    import pytest
    options = ['-q', '-p', 'no:cacheprovider', f'--junitxml={report}']
    return int(pytest.main([*options, str(path)]))


def plain(text, most=6000):
    "The end of what a process said, without colours."
    return re.sub(r'\x1b\[[\d;]*m', '', text).strip()[-most:]


def failure(case):
    "What pytest's report says of a test that failed, or None."
    bad = next((e for e in case if e.tag in ('failure', 'error')), None)
    return None if bad is None else bad.get('message', '') + '\n' + (bad.text or '')


def results_of(job, folder, status):
    "[(name, complaint or None)] of a job that has ended; status None: it was stuck."
    said = plain((folder/'log').read_text(errors='replace')) or f'exit status {status}'
    if status is None: said = f'stuck: no end after {STUCK // 60} minutes. It said:\n{said}'
    report = folder/'report.xml'
    cases = list(ET.parse(report).iter('testcase')) if report.exists() else []
    results = [(f'{job.path.stem}::{case.get("name")}', failure(case)) for case in cases]
    if status == 0: return results or [(job.name, None)]
    if all(complaint is None for _, complaint in results):
        results.append((job.name, said))  # it failed, and no test says why
    return results


# ---- all jobs, some at a time ----

@dataclass
class Running:
    "A job that has been started."
    job: Job
    folder: Path
    began: float
    stuck: bool = False  # killed, since it did not end


def run_jobs(jobs, workers):
    "Run all, so many at a time; yields (job, results, seconds of computing) as they end."
    todo, running = list(jobs), {}
    with tempfile.TemporaryDirectory() as tmp:
        try:
            while todo or running:
                while todo and len(running) < workers:
                    job, folder = todo.pop(0), Path(tmp)/f'{len(todo)}'
                    folder.mkdir()
                    running[start(job, folder)] = Running(job, folder, time.monotonic())
                pid, status, used = os.wait4(-1, os.WNOHANG)
                if pid: yield ended(running.pop(pid), status, used)
                else:
                    time.sleep(.1)
                    kill_the_stuck(running)
        finally:
            for pid in running: os.killpg(pid, signal.SIGKILL)


def ended(run, status, used):
    "(job, results, seconds of computing with all its children) of a job that has ended."
    code = None if run.stuck else os.waitstatus_to_exitcode(status)
    return run.job, results_of(run.job, run.folder, code), used.ru_utime + used.ru_stime


def kill_the_stuck(running):
    "Kill, once, each process that should have ended long ago."
    for pid, run in running.items():
        if not run.stuck and time.monotonic() > run.began + STUCK:
            run.stuck = True
            os.killpg(pid, signal.SIGKILL)


# ---- the report ----

class Tally:
    "Prints a line for each thing that is checked, with the complaint if any, and counts."
    def __init__(self): self.passed = self.failed = 0

    def tell(self, name, complaint, seconds=None, of_all=False):
        "`of_all`: the seconds are those of all tests of the file, of which this is the last."
        if complaint is None: self.passed += 1
        else: self.failed += 1
        whose = 'the file: ' * of_all
        cpu = '' if seconds is None else f'  ({whose}{seconds:.0f} s of computing)'
        print(f'{"ok  " if complaint is None else "FAIL"}  {name}{cpu}', flush=True)
        if complaint: print('      ' + complaint.replace('\n', '\n      '), flush=True)


def static_checks(only, tally):
    "The checks that run nothing."
    for check in CHECKS:
        if only not in check.__doc__: continue
        try: found = list(check())
        except Exception as e: found = [f'{type(e).__name__}: {e}']
        tally.tell(check.__doc__, '\n'.join(found) or None)


def jobs_checked(jobs, workers, tally):
    "Run and tell all jobs; what is to be said of each that computed for too long."
    if not jobs: return []
    scale, late = slowness(), []
    import_for_all()
    for job, results, seconds in run_jobs(jobs, workers):
        *others, last = results
        for name, complaint in others: tally.tell(name, complaint)
        tally.tell(*last, seconds, of_all=bool(others))
        if seconds > scale * job.enough: scale = max(scale, slowness())  # beside what runs now
        allowed = scale * job.enough
        if seconds > allowed:
            late.append(f'{job.name} computes for {seconds:.0f} s; {allowed:.0f} are meant to be '
                        f'enough (this machine: {scale:.1f} times the reference)')
    return late


def options():
    "What the command line asks for."
    ap = argparse.ArgumentParser(description='Check, execute and test everything.')
    ap.add_argument('--only', default='', metavar='WORD', help='only what has this in its name')
    ap.add_argument('--workers', type=int, default=os.cpu_count() + 1,
                    help='jobs at a time (default: one more than cores, '
                         'since some wait for processes of their own)')
    ap.add_argument('--job', type=Path, help=argparse.SUPPRESS)  # one notebook, in this process
    ap.add_argument('--slow', choices=('warn', 'fail'), default='warn',
                    help='what a page is that computes too long')
    return ap.parse_args()


def main():
    asked, began = options(), time.time()
    os.environ.update(environment())
    if asked.job: return do_job(Job(asked.job), None)
    tally = Tally()
    static_checks(asked.only, tally)
    jobs = jobs_for(asked.only)
    for words in jobs_checked(jobs, asked.workers, tally):
        if asked.slow == 'fail': tally.tell('speed', words)
        else: print(f'slow  {words}', flush=True)
    minutes = (time.time() - began) / 60
    print(f'{minutes:.1f} minutes; {len(jobs)} notebooks and test files run, '
          f'{asked.workers} at a time')
    print(f'{tally.passed} passed, {tally.failed} failed')
    return int(tally.failed > 0 or tally.passed == 0)


if __name__ == '__main__':
    try: sys.exit(main())
    except KeyboardInterrupt: sys.exit('\ninterrupted')
