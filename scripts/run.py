"""make run: train and measure the models of the book at preset digits, then render it.

  python scripts/run.py          pages as committed where nothing changed
  python scripts/run.py --anew   every notebook executed (make book)

Every step skips what an earlier run completed, so an interrupted run is repeated by running it
again. What failed stands first at the end, then the table, then the path of the book.
"""
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIVE = ['-m', 'jem_nb.cli', 'live']  # trains, measures and records what is not yet complete
FAILED = ROOT/'_book'/'failed.json'
PAGE = ROOT/'_book/html/index.html'


def call(*words):
    "Exit status of a Python of this environment."
    return subprocess.run([sys.executable, *map(str, words)], cwd=ROOT).returncode


def failures():
    "What the report opens with: a line for each page that failed."
    failed = json.loads(FAILED.read_text()) if FAILED.exists() else {}
    return [f'FAILED page {name}: {why}' for name, why in failed.items()]


def main():
    start = time.time()
    anew = [w for w in sys.argv[1:] if w == '--anew']
    print('[1/2] Train and measure the baseline classifier and the JEM (preset digits)',
          flush=True)
    if code := call(*LIVE, '--table', 'no'):
        print('\nmake run stopped while training or measuring; run it again to go on from there')
        return code
    how = ', every notebook executed anew' if anew else ''
    print(f'\n[2/2] Render the book{how}', flush=True)
    FAILED.unlink(missing_ok=True)
    code = call('scripts/book.py', *anew, '--failures', FAILED)
    print()
    for line in failures(): print(line)
    table = call(*LIVE)
    print(f'\nDone in {(time.time() - start) / 60:.1f} minutes.')
    if PAGE.exists(): print(f'The book: {PAGE.as_uri()}')
    return code or table


if __name__ == '__main__':
    try: sys.exit(main())
    except KeyboardInterrupt: sys.exit('\ninterrupted; run it again to go on from there')
