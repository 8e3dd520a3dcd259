"push_to_hub and from_pretrained against a hub on this computer, whose answers are these few."
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

pytest.importorskip('huggingface_hub')

from jem_nb.data import load
from jem_nb.saved_model import load_model

COMMIT = 'a' * 40


class Hub(BaseHTTPRequestHandler):
    "One model repository: created, committed to, listed and read."
    files = {}

    def log_message(self, *words): pass

    def body(self):
        n = self.headers.get('Content-Length')
        if n is not None: return self.rfile.read(int(n))
        parts = [] # in chunks
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b''.join(parts)

    def answer(self, found, status=200, kind='application/json', **headers):
        raw = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        for k, v in {'Content-Type': kind, 'Content-Length': len(raw), **headers}.items():
            self.send_header(k.replace('_', '-'), str(v))
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(raw)

    def do_POST(self):
        url, body = f'http://{self.headers["Host"]}/me/pets', self.body()
        if self.path.endswith('/repos/create'): return self.answer({'url': url, 'id': 'me/pets'})
        if '/preupload/' in self.path: # all of it comes with the commit
            asked = json.loads(body)['files']
            return self.answer({'files': [dict(path=f['path'], uploadMode='regular',
                                               shouldIgnore=False) for f in asked]})
        if '/commit/' not in self.path: return self.answer({'errors': [], 'warnings': []})
        for line in body.splitlines():
            item = json.loads(line)
            if item['key'] == 'file':
                value = item['value']
                self.files[value['path']] = base64.b64decode(value['content'])
        self.answer({'success': True, 'commitUrl': f'{url}/commit/{COMMIT}', 'commitOid': COMMIT,
                     'hookOutput': ''})

    def do_GET(self):
        if found := re.search(r'/resolve/\w+/(.+)', self.path):
            data = self.files.get(found[1])
            if data is None:
                return self.answer({}, 404, X_Error_Code='EntryNotFound', X_Repo_Commit=COMMIT)
            tag = f'"{hashlib.sha1(data).hexdigest()}"'
            return self.answer(data, kind='application/octet-stream', ETag=tag,
                               X_Repo_Commit=COMMIT)
        if '/tree/' in self.path:
            return self.answer([dict(type='file', path=name, size=len(data), oid='b' * 40)
                                for name, data in self.files.items()])
        self.answer(dict(id='me/pets', sha=COMMIT, tags=[],
                         siblings=[dict(rfilename=name) for name in self.files]))

    do_HEAD = do_GET


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


PUSH = '''
from jem_nb.data import load
from jem_nb.saved_model import load_model
model = load_model('digits').calibrate(load('digits', 'valid'))
print(model.push_to_hub('me/pets', token='hf_none'))
'''
PULL = '''
from jem_nb.data import load
from jem_nb.saved_model import TrainedModel
model = TrainedModel.from_pretrained('me/pets', token='hf_none')
p = model.predict(load('digits', 'test').x[:20], reject=.05)
print(p.label, p.known.tolist())
'''


def ran(code, url, home):
    "What a fresh process says that knows this hub and no other."
    env = os.environ | dict(HF_ENDPOINT=url, HF_HOME=str(home), OMP_NUM_THREADS='1')
    env |= dict(HF_HUB_DISABLE_XET='1', HF_HUB_DISABLE_TELEMETRY='1', no_proxy='127.0.0.1')
    env.pop('HF_HUB_OFFLINE', None)
    done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_pushed_and_pulled(hub, tmp_path):
    assert COMMIT in ran(PUSH, hub, tmp_path / 'one')
    assert {'README.md', 'model.safetensors'} <= set(Hub.files)
    model = load_model('digits').calibrate(load('digits', 'valid'))
    here = model.predict(load('digits', 'test').x[:20], reject=.05)
    assert ran(PULL, hub, tmp_path / 'two') == f'{here.label} {here.known.tolist()}'
