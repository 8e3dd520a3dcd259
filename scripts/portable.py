"""make portable: the gate as on other machines, one after the other; the last line is "N passed, N failed".

  python scripts/portable.py                 all of them; an hour or more
  python scripts/portable.py avx2 seed       only these
  python scripts/portable.py --run           make run as well, each time in a fresh clone of what is committed

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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GATE = [sys.executable, str(ROOT/'scripts/gate.py'), '--slow', 'fail']
VARIANTS = {  # name: variables of the environment, options of the gate, other processes on each core
    'avx2': (dict(ONEDNN_MAX_CPU_ISA='AVX2', ATEN_CPU_CAPABILITY='avx2'), [], 0),
    'sse': (dict(ONEDNN_MAX_CPU_ISA='SSE41', ATEN_CPU_CAPABILITY='default'), [], 0),
    'one': (dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1'), ['--workers', '1'], 0),
    'busy': (dict(), [], 1),
    'seed': (dict(JEM_NB_SEED_SHIFT='1'), [], 0),
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
        p = subprocess.Popen(words, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
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


def run(name, both):
    "(whether all passed, the gate's last line, minutes) under a variant; `both`: make run too."
    more, options, load = VARIANTS[name]
    env, log, start = {**os.environ, **more}, ROOT/'_book'/f'portable-{name}.log', time.time()
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    with busy(load * os.cpu_count()):
        status, line = watched([*GATE, *options], ROOT, env, log)
        if both:
            ran = run_in_clone(env, log)
            status, line = status or ran, f'{line}; make run {"failed" if ran else "ended well"}'
    return status == 0, line, (time.time() - start) / 60


def main():
    ap = argparse.ArgumentParser(description='The gate as on other machines.')
    ap.add_argument('which', nargs='*', default=list(VARIANTS), help=f'some of {", ".join(VARIANTS)} (default: all)')
    ap.add_argument('--run', action='store_true', help='make run as well, each time in a fresh clone')
    a = ap.parse_args()
    which = a.which
    if bad := [w for w in which if w not in VARIANTS]: ap.error(f'no variant {bad[0]!r}: there are {", ".join(VARIANTS)}')
    rows = []
    for name in which:
        env, options, load = VARIANTS[name]
        how = ' '.join([*(f'{k}={v}' for k, v in env.items()), *options, *['beside a busy process on every core'] * load])
        print(f'{name}: {how}', flush=True)
        rows.append((name, *run(name, a.run)))
    print()
    for name, ok, line, minutes in rows: print(f'{"ok  " if ok else "FAIL"}  {name:5} {minutes:5.1f} min  {line}')
    print(f'{sum(r[1] for r in rows)} passed, {sum(not r[1] for r in rows)} failed')
    return int(not all(r[1] for r in rows))


if __name__ == '__main__':
    try: sys.exit(main())
    except KeyboardInterrupt: sys.exit('\ninterrupted')
