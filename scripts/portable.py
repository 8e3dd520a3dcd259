"""make portable: the gate as on other machines; the last line is "N passed, N failed".

  python scripts/portable.py                 all of them, one after the other; an hour or more
  python scripts/portable.py avx2 seed       only these
  python scripts/portable.py --run           make run as well, each time in a fresh clone of
                                             what is committed

avx2   a CPU with AVX2 and nothing newer
sse    a CPU without AVX
one    one thread, one process at a time
busy   another process on every core
seed   every seed of the runs made live moved by one
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GATE = [sys.executable, str(ROOT/'scripts/gate.py'), '--slow', 'fail']


@dataclass
class Variant:
    "How the gate is run to stand for another machine."
    variables: dict = field(default_factory=dict)  # of the environment
    options: list = field(default_factory=list)    # of the gate
    load: int = 0                                  # other processes on each core

    def __str__(self):
        words = [f'{name}={value}' for name, value in self.variables.items()]
        words += self.options
        words += ['beside a busy process on every core'] * self.load
        return ' '.join(words)


VARIANTS = {
    'avx2': Variant(dict(ONEDNN_MAX_CPU_ISA='AVX2', ATEN_CPU_CAPABILITY='avx2')),
    'sse': Variant(dict(ONEDNN_MAX_CPU_ISA='SSE41', ATEN_CPU_CAPABILITY='default')),
    'one': Variant(dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1'), ['--workers', '1']),
    'busy': Variant(load=1),
    'seed': Variant(dict(JEM_NB_SEED_SHIFT='1')),
}


@contextmanager
def busy(n):
    "`n` processes that do nothing but keep a core busy."
    others = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(n)]
    try: yield
    finally:
        for p in others:
            p.kill()
            p.wait()


def watched(words, folder, env, log):
    "(exit status, last line) of a command; what is not 'ok' is shown, all of it goes to the log."
    line = ''
    with open(log, 'a', buffering=1) as f:
        p = subprocess.Popen(words, cwd=folder, env=env, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for line in p.stdout:
            f.write(line)
            if not line.startswith('ok  '): print(f'  {line}', end='', flush=True)
    return p.wait(), line.strip()


def run_in_clone(env, log):
    "Exit status of make run, by this Python, in a fresh clone."
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(['git', 'clone', '-q', str(ROOT), tmp], check=True)
        env = {**env, 'PYTHONPATH': tmp}
        return watched([sys.executable, 'scripts/run.py'], tmp, env, log)[0]


def empty_log(name):
    "The file for what a variant says, which is not there yet."
    log = ROOT/'_book'/f'portable-{name}.log'
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    return log


def run(name, both):
    "(whether all passed, the gate's last line, minutes) of a variant; `both`: make run too."
    variant, log, start = VARIANTS[name], empty_log(name), time.time()
    env = {**os.environ, **variant.variables}
    with busy(variant.load * os.cpu_count()):
        status, line = watched([*GATE, *variant.options], ROOT, env, log)
        if both:
            ran = run_in_clone(env, log)
            status = status or ran
            line += f'; make run {"failed" if ran else "ended well"}'
    return status == 0, line, (time.time() - start) / 60


def options():
    "What the command line asks for."
    names = ', '.join(VARIANTS)
    ap = argparse.ArgumentParser(description='The gate as on other machines.')
    ap.add_argument('which', nargs='*', default=list(VARIANTS),
                    help=f'some of {names} (default: all)')
    ap.add_argument('--run', action='store_true',
                    help='make run as well, each time in a fresh clone')
    asked = ap.parse_args()
    for name in asked.which:
        if name not in VARIANTS: ap.error(f'no variant {name!r}: there are {names}')
    return asked


def main():
    asked = options()
    rows = []
    for name in asked.which:
        print(f'{name}: {VARIANTS[name]}', flush=True)
        rows.append((name, *run(name, asked.run)))
    print()
    for name, ok, line, minutes in rows:
        print(f'{"ok  " if ok else "FAIL"}  {name:5} {minutes:5.1f} min  {line}')
    passed = [ok for _, ok, _, _ in rows]
    print(f'{sum(passed)} passed, {len(passed) - sum(passed)} failed')
    return int(not all(passed))


if __name__ == '__main__':
    try: sys.exit(main())
    except KeyboardInterrupt: sys.exit('\ninterrupted')
