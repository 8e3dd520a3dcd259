"""Plumbing of 11_data: every layout written and read back, damaged and missing files, downloads,
decoded copies, names that moved; published facts where the real sets are on this computer."""
import gzip
import hashlib
import importlib
import io
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from unittest import mock

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from jem_nb import data
from jem_nb.data import (
    ImageSet,
    _Arrays,
    _cached,
    _locate,
    available,
    data_root,
    load,
    resize,
    show_images,
    split_indices,
    to_uint8,
)


def random_bytes(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, dtype=torch.uint8, generator=g)


COLOUR = random_bytes(20, 3, 32, 32).numpy()
GRAY = random_bytes(20, 28, 28, seed=1).numpy()
ROWS = COLOUR.reshape(20, -1)
PARQUET_ROWS = COLOUR.transpose(0, 2, 3, 1)
LABELS = np.arange(20) % 10
SIX = ImageSet(random_bytes(6, 3, 4, 4), torch.tensor([0, 1, 2, 0, 1, -1]),
               'lesson', 'train', ('a', 'b', 'c'))


# ---- writers of the layouts ----

def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def pickled(path, **fields): write(path, pickle.dumps(fields, 2)) # as Python 2 wrote the CIFARs


def idx(path, array):
    "An idx file, packed when the name says so."
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, '>i4').tobytes()
    content = header + array.tobytes()
    write(path, gzip.compress(content) if path.suffix == '.gz' else content)


def webp(array):
    out = io.BytesIO()
    Image.fromarray(array).save(out, 'WEBP', lossless=True)
    return out.getvalue()


def parquet(path, images, labels, columns=('image', 'label'), names=None):
    "As the datasets library writes an image folder."
    rows = [{'bytes': webp(image), 'path': f'{i}.webp'} for i, image in enumerate(images)]
    features = {columns[1]: {'names': names}}
    meta = {'huggingface': json.dumps({'info': {'features': features}})} if names else {}
    table = pa.table([pa.array(rows), pa.array(labels)], columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(meta), path)


def write_cifar10(root):
    folder = root/'cifar-10-batches-py'
    for i in range(5):
        part = slice(4 * i, 4 * i + 4)
        pickled(folder/f'data_batch_{i + 1}', data=ROWS[part], labels=LABELS[part].tolist())
    pickled(folder/'test_batch', data=ROWS, labels=LABELS.tolist())


def write_cifar100(root):
    pickled(root/'cifar-100-python/test', data=ROWS, fine_labels=LABELS.tolist())
    pickled(root/'cifar-100-python/meta', fine_label_names=[f'kind {i}' for i in range(100)])


def write_mnist(root):
    for stem, packed in (('train', '.gz'), ('t10k', '')):
        idx(root/f'MNIST/raw/{stem}-images-idx3-ubyte{packed}', GRAY)
        idx(root/f'MNIST/raw/{stem}-labels-idx1-ubyte.gz', LABELS.astype(np.uint8))


def write_emnist(root):
    stem = root/'EMNIST/raw/emnist-letters-test'
    idx(Path(f'{stem}-images-idx3-ubyte.gz'), GRAY)
    idx(Path(f'{stem}-labels-idx1-ubyte.gz'), (LABELS + 1).astype(np.uint8))


def write_svhn(root):
    labels = np.where(LABELS == 0, 10, LABELS)[:, None]
    savemat(root/'test_32x32.mat', dict(X=COLOUR.transpose(2, 3, 1, 0), y=labels))


def write_celeba(root):
    partitions = '000001.jpg 0\n000002.jpg 2\n000003.jpg 2\n'
    write(root/'celeba/list_eval_partition.txt', partitions.encode())
    folder = root/'celeba/img_align_celeba'
    folder.mkdir()
    for i, value in ((1, 0), (2, 50), (3, 200)):
        face = np.full((218, 178, 3), value, np.uint8)
        Image.fromarray(face).save(folder/f'{i:06}.jpg')


def write_parquet(root):
    for i in range(2):
        part = slice(10 * i, 10 * i + 10)
        path = root/f'cifar10/train-{i:05}-of-00002.parquet'
        parquet(path, PARQUET_ROWS[part], LABELS[part], ('img', 'label'))
    path = root/'cifar10/test_first1000-00000-of-00001.parquet'
    parquet(path, PARQUET_ROWS[:3], LABELS[:3])
    names = [f'texture {i}' for i in range(10)]
    parquet(root/'dtd10/all-00000-of-00001.parquet', PARQUET_ROWS, LABELS, names=names)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "An empty data folder, with a place of its own for decoded copies."
    monkeypatch.setenv('JEM_NB_CACHE', str(tmp_path/'cache'))
    (tmp_path/'data').mkdir()
    return tmp_path/'data'


# ---- what is written comes back ----

def test_cifar10(folder):
    write_cifar10(folder)
    valid, train = [load('cifar10', split, folder) for split in ('valid', 'train')]
    assert (len(valid), len(train)) == (2, 18)        # a small part holds out a tenth
    order = np.random.RandomState(1234).permutation(20)
    assert np.array_equal(torch.cat([valid.x, train.x]), COLOUR[order])
    assert torch.cat([valid.y, train.y]).tolist() == LABELS[order].tolist()
    last = load('cifar10', 'valid', folder, holdout='last')
    assert np.array_equal(last.x, COLOUR[18:])


def test_cifar10_at_half_size(folder):
    write_cifar10(folder)
    small = load('cifar10_16', 'test', folder)
    blocks = COLOUR.reshape(20, 3, 16, 2, 16, 2).mean((3, 5))
    assert np.array_equal(small.x, blocks.round())
    assert small.mirrors


def test_cifar100_at_half_size(folder):
    "The same images in the same order as at full size."
    write_cifar100(folder)
    small, large = [load(name, 'test', folder) for name in ('cifar100_16', 'cifar100')]
    assert np.array_equal(small.x, resize(large, 16).x)
    assert torch.equal(small.y, large.y)


def test_cifar100(folder):
    write_cifar100(folder)
    test = load('cifar100', 'test', folder)
    assert (test.classes[7], test.y.tolist()) == ('kind 7', LABELS.tolist())


def test_mnist(folder):
    write_mnist(folder)
    assert np.array_equal(load('mnist', 'valid', folder).x[:, 0], GRAY[-2:]) # the last of the file
    assert np.array_equal(load('mnist', 'test', folder).x[:, 0], GRAY)


def test_emnist_is_turned_upright(folder):
    write_emnist(folder)
    letters = load('emnist_letters', 'test', folder)
    assert np.array_equal(letters.x[:, 0], GRAY.transpose(0, 2, 1))
    assert letters.y.tolist() == LABELS.tolist()      # the file counts from 1
    assert [letters.classes[i] for i in letters.y[:5]] == list('ABCDE')


def test_svhn(folder):
    write_svhn(folder)
    svhn = load('svhn', 'test', folder)
    assert np.array_equal(svhn.x, COLOUR)
    assert svhn.y.tolist() == LABELS.tolist()         # 10 stands for zero
    assert (svhn.source, svhn.mirrors) == ('mat test_32x32.mat', False)


def test_celeba_reads_the_test_partition(folder):
    write_celeba(folder)
    faces = load('celeba', 'test', folder)
    assert faces.x.shape == (2, 3, 32, 32)
    assert faces.x[:, 0, 0, 0].tolist() == [50, 200]
    assert faces.y.tolist() == [-1, -1]
    assert repr(faces) == 'celeba test: 2 images of 3×32×32, 0 classes'


def test_parquet_gives_the_same_splits(folder, tmp_path):
    write_parquet(folder)
    write_cifar10(tmp_path/'other')
    for split in ('train', 'valid'):
        a, b = load('cifar10', split, folder), load('cifar10', split, tmp_path/'other')
        assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y)
    part, whole = load('cifar10', 'test', folder), load('cifar10', 'test', tmp_path/'other')
    assert (len(part), len(whole)) == (3, 20)
    assert part.source == 'parquet cifar10/test_first1000-00000-of-00001.parquet'
    assert whole.source == 'cifar cifar-10-batches-py/test_batch'


def test_parquet_names_its_classes(folder):
    write_parquet(folder)
    assert load('dtd10', 'test', folder).classes[3] == 'texture 3'


# ---- damaged files ----

class Hostile:
    "What a pickle can do to its reader."
    def __reduce__(self): return os.system, ('exit 3',)


def half(content): return content[:len(content) // 2]
def web_page(content): return b'<html>not found</html>'
def labels_header(content): return b'\x00\x00\x08\x01' + content[4:]
def one_label(content): return pickle.dumps(dict(data=ROWS, labels=[1]))
def hostile(content): return pickle.dumps(Hostile())


BATCHES, RAW = 'cifar-10-batches-py', 'MNIST/raw'
SHARD = 'cifar10/train-00001-of-00002.parquet'
FACE = 'celeba/img_align_celeba/000003.jpg'
DAMAGES = {  # writer of the files, the damaged one, its content, set, split, part of the message
    'packed idx, cut short': (
        write_mnist, f'{RAW}/train-images-idx3-ubyte.gz', half, 'mnist', 'train', 'EOFError'),
    'packed idx, a web page': (
        write_mnist, f'{RAW}/train-images-idx3-ubyte.gz', web_page, 'mnist', 'train',
        'BadGzipFile'),
    'idx, cut short': (
        write_mnist, f'{RAW}/t10k-images-idx3-ubyte', half, 'mnist', 'test', 'cannot reshape'),
    'idx, labels for images': (
        write_mnist, f'{RAW}/t10k-images-idx3-ubyte', labels_header, 'mnist', 'test',
        'starts with 00000801'),
    'CIFAR, cut short': (
        write_cifar10, f'{BATCHES}/data_batch_3', half, 'cifar10', 'train', 'pickled CIFAR batch'),
    'CIFAR, one label': (
        write_cifar10, f'{BATCHES}/data_batch_3', one_label, 'cifar10', 'train',
        '20 images but 1 labels'),
    'CIFAR, hostile': (
        write_cifar10, f'{BATCHES}/test_batch', hostile, 'cifar10', 'test', 'wants to load'),
    'MATLAB, cut short': (write_svhn, 'test_32x32.mat', half, 'svhn', 'test', 'MATLAB'),
    'Parquet, cut short': (write_parquet, SHARD, half, 'cifar10', 'train', 'Parquet'),
    'JPEG, cut short': (write_celeba, FACE, half, 'celeba', 'test', 'JPEG'),
}


@pytest.mark.parametrize('case', DAMAGES)
def test_damaged(case, folder):
    writer, name, damage, dataset, split, why = DAMAGES[case]
    writer(folder)
    path = folder/name
    path.write_bytes(damage(path.read_bytes()))
    message = f'{path.name} is damaged.*{why}.*get it again'
    with pytest.raises(ValueError, match=message): load(dataset, split, folder)


def test_wrong_columns(folder):
    path = folder/'dtd10/all-00000-of-00001.parquet'
    parquet(path, PARQUET_ROWS, LABELS, ('picture', 'label'))
    with pytest.raises(ValueError, match='its columns are picture, label'):
        load('dtd10', 'test', folder)


def test_labels_that_no_class_has(folder):
    write_mnist(folder)
    idx(folder/'MNIST/raw/t10k-labels-idx1-ubyte.gz', (LABELS + 5).astype(np.uint8))
    with pytest.raises(ValueError, match='labels run from 5 to 14'): load('mnist', 'test', folder)


def test_hostile_pickle():
    with pytest.raises(pickle.UnpicklingError, match='wants to load .*system'):
        _Arrays(io.BytesIO(pickle.dumps(Hostile()))).load()


@pytest.mark.parametrize('protocol', range(5))
def test_arrays_pass(protocol):
    content = pickle.dumps({'data': np.arange(3, dtype=np.uint8)}, protocol)
    assert _Arrays(io.BytesIO(content), encoding='latin1').load()['data'].tolist() == [0, 1, 2]


# ---- missing files, downloads ----

def test_missing_batch(folder):
    write_cifar10(folder)
    (folder/'cifar-10-batches-py/data_batch_5').unlink()
    with pytest.raises(FileNotFoundError, match='Missing: cifar-10-batches-py/data_batch_5; or'):
        load('cifar10', 'train', folder)
    assert not available('cifar10', 'train', folder)
    assert available('cifar10', 'test', folder)


def test_missing_shard(folder):
    write_parquet(folder)
    (folder/'cifar10/train-00000-of-00002.parquet').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 2 shards are there'):
        load('cifar10', 'valid', folder)


def test_missing_set(folder):
    with pytest.raises(FileNotFoundError, match='tiny_imagenet/val-'):
        load('tiny_imagenet', 'test', folder)


def test_message_for_a_missing_set(folder):
    with pytest.raises(FileNotFoundError) as error: _locate('cifar10', 'test', folder)
    wanted = ('cifar-10-batches-py/test_batch', 'cifar10/test-*.parquet', 'JEM_NB_DATA',
              'download=True', str(folder))
    for part in wanted: assert part in str(error.value)


def test_available_in_an_empty_folder(folder):
    names = 'digits', 'cifar10', 'svhn'
    assert [available(name, root=folder) for name in names] == [True, False, False]
    assert not available('celeba', 'train', root=folder) # a split that the set does not have


def test_data_root(monkeypatch):
    monkeypatch.setenv('JEM_NB_DATA', 'elsewhere')
    assert data_root() == Path('elsewhere')
    assert data_root('here') == Path('here')
    monkeypatch.delenv('JEM_NB_DATA')
    assert data_root().parts[-2:] == ('data', 'raw')


def fetch(root, train, download):
    "Stands in for torchvision.datasets.CIFAR10."
    for name in ['test_batch'] + [f'data_batch_{i}' for i in range(1, 6)]:
        pickled(Path(root)/'cifar-10-batches-py'/name, data=ROWS, labels=LABELS.tolist())


def test_download(folder):
    import torchvision.datasets
    fresh = folder/'fresh'
    with mock.patch.object(torchvision.datasets, 'CIFAR10', side_effect=fetch) as cifar:
        assert len(load('cifar10', 'train', fresh, download=True)) == 90
        assert len(load('cifar10', 'test', fresh, download=True)) == 20
        assert cifar.call_count == 1                  # what is there is not fetched again


def test_no_download(folder):
    with pytest.raises(ValueError, match='has no download'):
        load('dtd10', 'test', folder, download=True)


# ---- decoded copies ----

class Reader:
    "Counts how often it was asked to read."
    def __init__(self): self.count = 0

    def __call__(self):
        self.count += 1
        return np.arange(4, dtype=np.uint8), np.arange(4), ('a', 'b')


def test_a_copy_is_read_instead_of_the_file(tmp_path):
    source, read = tmp_path/'source', Reader()
    source.write_bytes(b'one')
    for _ in range(2): x, _, names = _cached([source], read, tmp_path/'copies')
    assert (x.tolist(), names, read.count) == ([0, 1, 2, 3], ('a', 'b'), 1)
    source.write_bytes(b'another')                    # a changed file is read again
    _cached([source], read, tmp_path/'copies')
    assert read.count == 2
    assert [f.suffix for f in (tmp_path/'copies').iterdir()] == ['.npz', '.npz']


def test_a_damaged_copy_is_replaced(tmp_path):
    source, read = tmp_path/'source', Reader()
    source.write_bytes(b'one')
    _cached([source], read, tmp_path/'copies')
    for copy in (tmp_path/'copies').iterdir(): copy.write_bytes(copy.read_bytes()[:40])
    for _ in range(2): x = _cached([source], read, tmp_path/'copies')[0]
    assert (x.tolist(), read.count) == ([0, 1, 2, 3], 2)


def test_no_place_for_a_copy_is_no_error(tmp_path):
    source = tmp_path/'source'
    source.write_bytes(b'one')
    assert _cached([source], Reader(), source/'no-folder')[0].tolist() == [0, 1, 2, 3]


# ---- sets, splits, sizes ----

def test_image_set():
    assert len(SIX) == 6 and SIX.unit().shape == (6, 3, 4, 4)
    assert repr(SIX) == 'lesson train: 6 images of 3×4×4, 3 classes'
    assert torch.equal(to_uint8(SIX.unit()), SIX.x)
    assert SIX.to('cpu') is SIX and not SIX.mirrors
    assert not load('digits', 'train').mirrors


def test_resize():
    assert resize(SIX, 4).x is SIX.x                  # nothing to do
    assert resize(SIX, 7).y.tolist() == SIX.y.tolist()
    flat = replace(SIX, x=torch.full_like(SIX.x, 77))
    for size in (1, 3, 7, 32): assert resize(flat, size).x.unique().tolist() == [77]


@pytest.mark.parametrize('name', ['mnist', 'mnist_14', 'cifar10', 'cifar10_16', 'cifar100_16'])
def test_every_image_is_in_one_split(name):
    train, valid = [split_indices(name, split, 50_000) for split in ('train', 'valid')]
    assert (len(train), len(valid)) == (45_000, 5000)
    assert len(np.union1d(train, valid)) == 50_000


def test_cifar10_split_is_constant():
    parts = [split_indices('cifar10', split, 50_000) for split in ('valid', 'train')]
    code = hashlib.sha256(np.concatenate(parts).astype('<i8').tobytes())
    assert code.hexdigest()[:12] == '2e4bbf08d2b5'


LAST = [('cifar10_16', 'usual'), ('mnist_14', 'usual'), ('cifar10', 'last')]


@pytest.mark.parametrize('name, holdout', LAST)
def test_last_images_held_out(name, holdout):
    train, valid = [split_indices(name, s, 50_000, holdout) for s in ('train', 'valid')]
    assert train.tolist() == list(range(45_000))
    assert valid.tolist() == list(range(45_000, 50_000))


def test_show_images():
    ax = show_images(torch.zeros(5, 1, 4, 4), 3)      # two rows of three, one pixel between
    assert ax.images[0].get_array().shape == (2 * 5 + 1, 3 * 5 + 1, 3)
    plt.close('all')


# ---- names that moved ----

MOVED = {'OOD_SETS': 'outside', 'load_ood': 'outside', 'augment': 'augment', 'add_noise': 'augment'}


@pytest.mark.parametrize('name', MOVED)
def test_old_import(name):
    space = {}
    exec(f'from jem_nb.data import {name}', space)
    assert space[name] is getattr(importlib.import_module(f'jem_nb.{MOVED[name]}'), name)


def test_star_import():
    space = {}
    exec('from jem_nb.data import *', space)
    assert {*MOVED, 'load', 'ImageSet', 'SETS'} <= set(space)


def test_unknown_name():
    with pytest.raises(AttributeError, match="'jem_nb.data' has no attribute 'lode'"): data.lode
    with pytest.raises(ImportError, match='lode'): exec('from jem_nb.data import lode')


# ---- published facts, where the real sets are on this computer ----

def needs(name, split='test'):
    here = available(name, split)
    return pytest.mark.skipif(not here, reason=f'{name} {split} is not on this computer')


@needs('cifar10', 'train')
def test_cifar10_channel_means():
    x = torch.cat([load('cifar10', split).x for split in ('train', 'valid')])
    means = [x[:, c].double().mean().item() / 255 for c in range(3)]
    assert means == pytest.approx([.49140, .48216, .44653], abs=5e-5)


@needs('cifar10_16', 'train')
def test_cifar10_16_is_balanced():
    y = torch.cat([load('cifar10_16', split).y for split in ('train', 'valid')])
    assert y.bincount().tolist() == [5000] * 10


@needs('mnist', 'train')
@needs('mnist')
def test_mnist_sizes():
    sizes = [len(load('mnist', split)) for split in ('train', 'valid', 'test')]
    assert sizes == [55_000, 5000, 10_000]


COUNTS = {  # images taken from the front of the test set, or all; how many there are of each class
    'cifar10': (1000, [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]),
    'svhn': (10_000, [684, 1968, 1590, 1104, 964, 909, 773, 767, 621, 620]),
    'mnist': (10_000, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    'emnist_letters': (20_800, [800] * 26),
    'fashion_mnist': (10_000, [1000] * 10),
}


@pytest.mark.parametrize('name', COUNTS)
def test_class_counts(name):
    if not available(name): pytest.skip(f'{name} is not on this computer')
    n, counts = COUNTS[name]
    assert load(name, 'test').take(n).y.bincount().tolist() == counts


@needs('cifar10')
@needs('cifar10_jpeg75')
def test_lossy_cifar10():
    "The same picture each time: 5.8 of 255 apart on average."
    clean, lossy = [load(name, 'test').take(1000) for name in ('cifar10', 'cifar10_jpeg75')]
    assert lossy.y.tolist() == clean.y.tolist()
    error = (lossy.x.float() - clean.x.float()).abs().mean((1, 2, 3))
    assert error.max() < 25 and 4 < error.mean() < 8


@pytest.mark.parametrize('name', ['celeba', 'dtd10', 'tiny_imagenet', 'cinic10', 'cifar10_jpeg75'])
def test_32_by_32(name):
    if not available(name): pytest.skip(f'{name} is not on this computer')
    assert load(name, 'test').x.shape[1:] == (3, 32, 32)
