"""make portable: the gate as on other machines, one after the other; the last line is "N passed, N failed".

  python scripts/portable.py                 all of them; an hour or more
  python scripts/portable.py avx2 seed       only these

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


def run(name):
    "(whether the gate passed, its last line, minutes) under a variant; its output goes to a log as well."
    env, options, load = VARIANTS[name]
    log, start = ROOT/'_book'/f'portable-{name}.log', time.time()
    log.parent.mkdir(exist_ok=True)
    with busy(load * os.cpu_count()), open(log, 'w', buffering=1) as f:
        p = subprocess.Popen([*GATE, *options], cwd=ROOT, env={**os.environ, **env}, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        line = ''
        for line in p.stdout:
            f.write(line)
            if not line.startswith('ok  '): print(f'  {line}', end='', flush=True)
    return p.wait() == 0, line.strip(), (time.time() - start) / 60


def main():
    ap = argparse.ArgumentParser(description='The gate as on other machines.')
    ap.add_argument('which', nargs='*', default=list(VARIANTS), help=f'some of {", ".join(VARIANTS)} (default: all)')
    which = ap.parse_args().which
    if bad := [w for w in which if w not in VARIANTS]: ap.error(f'no variant {bad[0]!r}: there are {", ".join(VARIANTS)}')
    rows = []
    for name in which:
        env, options, load = VARIANTS[name]
        how = ' '.join([*(f'{k}={v}' for k, v in env.items()), *options, *['beside a busy process on every core'] * load])
        print(f'{name}: {how}', flush=True)
        rows.append((name, *run(name)))
    print()
    for name, ok, line, minutes in rows: print(f'{"ok  " if ok else "FAIL"}  {name:5} {minutes:5.1f} min  {line}')
    print(f'{sum(r[1] for r in rows)} passed, {sum(not r[1] for r in rows)} failed')
    return int(not all(r[1] for r in rows))


if __name__ == '__main__':
    try: sys.exit(main())
    except KeyboardInterrupt: sys.exit('\ninterrupted')
