"""make run: train and measure the models of the book at preset digits, then execute and render it.

Every step skips what an earlier run completed, so an interrupted run is repeated by running it again.
"""
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIVE = ['-m', 'jem_nb.cli', 'live'] # trains, measures and records what is not yet complete; prints the table
STEPS = [
    ('Train and measure the baseline classifier and the JEM (preset digits)', LIVE),
    ('Execute the notebooks and render the book', ['scripts/book.py']),
    ('Results', LIVE),
]


def main():
    start = time.time()
    for i, (title, command) in enumerate(STEPS, 1):
        print(f'\n[{i}/{len(STEPS)}] {title}', flush=True)
        code = subprocess.run([sys.executable, *command], cwd=ROOT).returncode
        if code: return f'\nmake run stopped at step {i} ({title}); run it again to go on from there'
    page = ROOT/'_book/html/index.html'
    print(f'\nDone in {(time.time() - start)/60:.1f} minutes. The book lies at {page}\n{page.as_uri()}')


if __name__ == '__main__':
    try: sys.exit(main())
    except KeyboardInterrupt: sys.exit('\ninterrupted; run it again to go on from there')
