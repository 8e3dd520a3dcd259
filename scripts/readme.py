"""Render the README's two made parts: its figure from 90_summary, its results from the records."""
import base64
import json
import sys
from pathlib import Path

from jem_nb.results import main as results

ROOT = Path(__file__).resolve().parent.parent


def overview()->bytes:
    "The PNG that cell `overview` of 90_summary stores."
    cells = json.loads((ROOT/'nbs/90_summary.ipynb').read_text(encoding='utf8'))['cells']
    outputs = next(c['outputs'] for c in cells if c['id'] == 'overview')
    pictures = [o['data']['image/png'] for o in outputs if 'image/png' in o.get('data', {})]
    if not pictures: sys.exit('90_summary stores no figure in cell overview: execute it first')
    return base64.b64decode(''.join(pictures[0]))


if __name__ == '__main__':
    (ROOT/'docs').mkdir(exist_ok=True)
    (ROOT/'docs/overview.png').write_bytes(overview())
    sys.exit(results(['readme']))
