"""Take the README's two rendered parts from where they are made: its figure from 90_summary, its results from the records."""
import base64
import json
import sys
from pathlib import Path

from jem_nb.results import main as results

ROOT = Path(__file__).resolve().parent.parent


def overview()->bytes: # the PNG that cell `overview` of 90_summary stores
    cells = json.loads((ROOT/'nbs/90_summary.ipynb').read_text(encoding='utf8'))['cells']
    outputs = [o for c in cells if c['id'] == 'overview' for o in c['outputs'] if 'image/png' in o.get('data', {})]
    if not outputs: sys.exit('90_summary stores no figure in cell overview: execute it first')
    return base64.b64decode(''.join(outputs[0]['data']['image/png']))


if __name__ == '__main__':
    (ROOT/'docs').mkdir(exist_ok=True)
    (ROOT/'docs/overview.png').write_bytes(overview())
    sys.exit(results(['readme']))
