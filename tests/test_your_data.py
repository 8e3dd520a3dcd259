"Folders, datasets, tables and tensors that become Splits, and those that cannot."
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import jem_nb
from jem_nb import your_data
from jem_nb.data import fingerprint
from jem_nb.your_data import (
    as_bytes, from_dataset, from_folder, from_frame, from_parquet, from_tensors, whole_folder)

G = np.random.default_rng(0)


def picture(size=(8, 8), grey=False):
    "Random pixels; size as PIL has it, width first."
    shape = (size[1], size[0]) if grey else (size[1], size[0], 3)
    return Image.fromarray(G.integers(0, 256, shape, dtype=np.uint8))


def folder_of(root, counts, size=(8, 8), grey=False, kind='png'):
    "root/CLASS/i.png, so many of each class."
    for name, n in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n): picture(size, grey).save(root / name / f'{i:02d}.{kind}')
    return root


def test_a_folder(tmp_path):
    data = from_folder(folder_of(tmp_path / 'pets', dict(cat=20, dog=10)))
    assert data.classes == ('cat', 'dog') and (data.size, data.channels) == (8, 3)
    assert {k: len(v) for k, v in data.items()} == dict(train=22, valid=4, test=4)
    for split in data: assert data[split].name == 'pets' and data[split].split == split
    assert set(data['valid'].y.tolist()) == {0, 1}


def test_no_image_is_in_two_splits(tmp_path):
    data = from_folder(folder_of(tmp_path / 'pets', dict(cat=30, dog=30)))
    seen = [x.numpy().tobytes() for images in data.values() for x in images.x]
    assert len(set(seen)) == len(seen) == 60


def test_the_seed_alone_divides(tmp_path):
    folder = folder_of(tmp_path / 'pets', dict(cat=20, dog=20))
    one, same, other = (from_folder(folder, seed=seed) for seed in (0, 0, 1))
    assert fingerprint(one['train']) == fingerprint(same['train']) != fingerprint(other['train'])


def test_parts_of_its_own_are_used(tmp_path):
    folder_of(tmp_path / 'pets' / 'train', dict(cat=20, dog=20))
    folder_of(tmp_path / 'pets' / 'test', dict(cat=3, dog=4))
    data = from_folder(tmp_path / 'pets')
    assert {k: len(v) for k, v in data.items()} == dict(train=34, valid=6, test=7)
    folder_of(tmp_path / 'pets' / 'test', dict(horse=1))
    with pytest.raises(ValueError, match='other classes than train: horse'):
        from_folder(tmp_path / 'pets')


def test_any_size_and_colour_as_asked(tmp_path, capsys):
    folder_of(tmp_path / 'p', dict(cat=6, dog=6), (20, 12))
    data = from_folder(tmp_path / 'p', size=8, channels=1)
    assert data['train'].x.shape[1:] == (1, 8, 8)
    assert 'images of 20×12 pixels, scaled and cut to 8×8' in capsys.readouterr().out


REFUSED = dict(
    one_class=(dict(cat=9), {}, r'1 classes \(cat\): a classifier needs two'),
    few_images=(dict(cat=9, dog=2), {}, r'too few images of dog \(2\): 4 at least'),
    no_share=(dict(cat=9, dog=9), dict(valid=0.), 'valid=0.0: a share between 0 and 1'),
    all_shares=(dict(cat=9, dog=9), dict(valid=.6, test=.5), 'leave nothing to learn from'),
)


@pytest.mark.parametrize('counts, how, words', REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_divided(tmp_path, counts, how, words):
    folder_of(tmp_path / 'p', counts)
    with pytest.raises(ValueError, match=words): from_folder(tmp_path / 'p', **how)


def test_grey_and_colour_mixed(tmp_path):
    folder_of(tmp_path / 'p', dict(cat=6))
    folder_of(tmp_path / 'p', dict(dog=6), grey=True)
    with pytest.raises(ValueError, match='mixes 6 grey and 6 colour images: say which'):
        from_folder(tmp_path / 'p')
    assert from_folder(tmp_path / 'p', channels=3).channels == 3


def test_sizes_that_differ(tmp_path):
    folder_of(tmp_path / 'p', dict(cat=6))
    folder_of(tmp_path / 'p', dict(dog=6), (9, 7))
    with pytest.raises(ValueError, match='2 sizes, 8×8 to 9×7: say which is wanted'):
        from_folder(tmp_path / 'p')


def test_a_file_that_is_no_image(tmp_path):
    folder_of(tmp_path / 'p', dict(cat=6, dog=6))
    (tmp_path / 'p' / 'cat' / 'notes.png').write_text('hello')
    with pytest.raises(ValueError, match='notes.png cannot be read as an image'):
        from_folder(tmp_path / 'p')


def test_no_folder_and_no_classes(tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder'): from_folder(tmp_path / 'none')
    picture().save(tmp_path / 'alone.png')
    with pytest.raises(ValueError, match='a folder of images for each class'):
        from_folder(tmp_path)


def test_turned_as_the_camera_says(tmp_path):
    wide = Image.fromarray(np.repeat(np.array([[0, 200]], np.uint8), 4, 0).repeat(4, 1))
    exif = Image.Exif()
    exif[0x0112] = 6 # a quarter turn
    wide.save(tmp_path / 'turned.png', exif=exif)
    plain, turned = as_bytes(wide, 4, 1), as_bytes(tmp_path / 'turned.png', 4, 1)
    assert not torch.equal(plain, turned)


@pytest.mark.parametrize('image, words', [
    (np.zeros((4, 4)), 'float64: uint8 is wanted'),
    (torch.full((3, 4, 4), 3.), r'floats from 3 to 3.*take Normalize out'),
    (Image.fromarray(np.zeros((4, 4), np.uint16)), 'images of 8 bits'),
    (3, 'a int is no image')])
def test_no_image(image, words):
    with pytest.raises(ValueError, match=words): as_bytes(image, 4)


def test_one_image_in_many_forms(tmp_path):
    image = picture()
    image.save(tmp_path / 'a.png')
    array, file = np.asarray(image), tmp_path / 'a.png'
    forms = [image, file, str(file), file.read_bytes(), dict(bytes=file.read_bytes(), path=None),
             array, torch.from_numpy(array.copy()).permute(2, 0, 1),
             torch.from_numpy(array.copy()).permute(2, 0, 1) / 255]
    for form in forms: assert torch.equal(as_bytes(form, 8), as_bytes(image, 8))


def test_sources_agree(tmp_path):
    import pandas as pd
    folder = folder_of(tmp_path / 'pets', dict(cat=12, dog=12))
    wanted = from_folder(folder)
    files = sorted(folder.rglob('*.png'))
    frame = pd.DataFrame(dict(image=[str(f.relative_to(folder)) for f in files],
                              label=[f.parent.name for f in files]))
    table = pd.DataFrame(dict(image=[dict(bytes=f.read_bytes(), path=None) for f in files],
                              label=frame['label']))
    table.to_parquet(tmp_path / 'pets.parquet')
    pairs = [(Image.open(f), f.parent.name) for f in files]
    x = np.stack([np.asarray(image) for image, _ in pairs]).transpose(0, 3, 1, 2)
    for found in (from_frame(frame, root=folder), from_parquet(tmp_path / '*.parquet'),
                  from_dataset(pairs), from_tensors(x, frame['label'].tolist())):
        assert found.classes == ('cat', 'dog')
        for split in wanted:
            assert torch.equal(found[split].x, wanted[split].x)
            assert torch.equal(found[split].y, wanted[split].y)


def test_a_test_set_of_its_own():
    pairs = [(picture(), i % 2) for i in range(20)]
    data = from_dataset(pairs[:14], test=pairs[14:], classes=['cat', 'dog'])
    assert {k: len(v) for k, v in data.items()} == dict(train=12, valid=2, test=6)


@pytest.mark.parametrize('labels, words', [
    ([.5, 1.5] * 10, 'labels are floats'),
    ([1, .5] * 10, 'labels are floats'),
    ([None, 1] * 10, '10 of 20 labels are missing'),
    ([0, 7] * 10, 'a label is outside the 2 classes')])
def test_labels_that_cannot_be(labels, words):
    pairs = [(picture(), y) for y in labels]
    with pytest.raises(ValueError, match=words): from_dataset(pairs, classes=['cat', 'dog'])


def test_a_dataset_that_gives_no_pairs():
    with pytest.raises(ValueError, match='pairs of an image and a label'): from_dataset([picture()])
    with pytest.raises(ValueError, match='none of image, img'): from_dataset([dict(x=1, label=0)])


def test_a_column_that_is_not_there():
    import pandas as pd
    with pytest.raises(ValueError, match="no column 'image': there are file, label"):
        from_frame(pd.DataFrame(dict(file=['a'], label=['b'])))
    with pytest.raises(FileNotFoundError, match='no file'): from_parquet('nowhere/*.parquet')


def test_tensors(capsys):
    x, y = torch.rand(20, 8, 8), torch.arange(20) % 2
    assert from_tensors(x, y)['train'].x.shape[1:] == (1, 8, 8)
    assert 'if they are pixels in [0, 1], pass 2 * x - 1' in capsys.readouterr().out
    with pytest.raises(ValueError, match=r'floats from 0 to 255.*pass bytes'):
        from_tensors(x.round() * 255, y)
    with pytest.raises(ValueError, match='20 images but 19 labels'): from_tensors(x, y[:19])
    with pytest.raises(ValueError, match=r'\(n, c, h, w\) are wanted'): from_tensors(x[0], y)


def test_kept_on_the_disk(tmp_path):
    folder = folder_of(tmp_path / 'pets', dict(cat=12, dog=12))
    wanted, keep = from_folder(folder), tmp_path / 'kept'
    for _ in range(2): # made, then found
        found = from_folder(folder, keep=keep)
        assert fingerprint(found['test']) == fingerprint(wanted['test'])
    made = (keep / 'images.npy').stat().st_mtime_ns
    with pytest.raises(ValueError, match='keeps other images than these'):
        from_folder(folder, seed=1, keep=keep)
    assert (keep / 'images.npy').stat().st_mtime_ns == made


def test_a_block_is_whole_or_absent(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / 'pets', dict(cat=12, dog=12))
    real, seen = your_data.as_bytes, []
    def fails(*args):
        seen.append(1)
        if len(seen) == 10: raise KeyboardInterrupt
        return real(*args)
    monkeypatch.setattr(your_data, 'as_bytes', fails)
    with pytest.raises(KeyboardInterrupt): from_folder(folder, keep=tmp_path / 'kept')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['pets']


def test_what_is_larger_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(your_data, '_MOST_IN_MEMORY', 1000)
    monkeypatch.setenv('JEM_NB_CACHE', str(tmp_path / 'cache'))
    data = from_folder(folder_of(tmp_path / 'pets', dict(cat=12, dog=12)))
    assert len(list((tmp_path / 'cache').iterdir())) == 1
    assert len(data['train']) == 16
    pairs = [(picture(), i % 2) for i in range(20)]
    with pytest.raises(ValueError, match='say where they can be kept, keep=FOLDER'):
        from_dataset(pairs)


def test_a_whole_folder_for_a_model(tmp_path):
    folder = folder_of(tmp_path / 'pets', dict(cat=2, dog=3), (9, 9))
    images = whole_folder(folder, 8, 3, ('bird', 'cat', 'dog'))
    assert images.y.tolist() == [1, 1, 2, 2, 2] and images.x.shape[1:] == (3, 8, 8)
    with pytest.raises(ValueError, match='classes that the model does not know: cat'):
        whole_folder(folder, 8, 3, ('dog', 'horse'))


def test_the_package_has_them():
    assert jem_nb.from_folder is from_folder
    assert {'fit', 'load', 'from_folder', 'EnergyClassifier'} <= set(dir(jem_nb))
    with pytest.raises(AttributeError, match="no attribute 'from_floder'"): jem_nb.from_floder


def test_hidden_files_and_others_are_left_alone(tmp_path, capsys):
    folder = folder_of(tmp_path / 'p', dict(cat=6, dog=6))
    folder_of(folder, {'.thumbs': 3})
    folder_of(folder / 'cat', {'.ipynb_checkpoints': 2})
    (folder / '.empty').mkdir()
    (folder / 'dog' / 'notes.txt').write_text('good dog')
    picture().save(folder / 'dog' / 'LOUD.PNG')
    data = from_folder(folder)
    assert data.classes == ('cat', 'dog') and sum(map(len, data.values())) == 13
    assert '1 files are no images by their names, passed over' in capsys.readouterr().out


@pytest.mark.parametrize('names', [('Train', 'Test'), ('train', 'validation'), ('training', 'dev')])
def test_other_names_of_the_parts(tmp_path, names):
    for name in names: folder_of(tmp_path / 'p' / name, dict(cat=8, dog=8))
    data = from_folder(tmp_path / 'p')
    assert data.classes == ('cat', 'dog') and set(data) == {'train', 'valid', 'test'}


def test_a_folder_beside_the_parts(tmp_path):
    for name in ('train', 'test', 'annotations'):
        folder_of(tmp_path / 'p' / name, dict(cat=8, dog=8))
    with pytest.raises(ValueError, match='beside it annotations, which is none of train'):
        from_folder(tmp_path / 'p')


def test_other_pixels_are_not_taken_for_those_that_are_kept(tmp_path):
    pairs = [(torch.full((1, 8, 8), i, dtype=torch.uint8), i % 2) for i in range(20)]
    other = [(255 - x, y) for x, y in pairs]
    from_dataset(pairs, keep=tmp_path / 'kept')
    with pytest.raises(ValueError, match='keeps other images than these'):
        from_dataset(other, keep=tmp_path / 'kept')
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'letter.txt').write_text('mine')
    with pytest.raises(ValueError, match='holds other files'):
        from_dataset(pairs, keep=tmp_path / 'full')


def test_another_size_has_another_place(tmp_path, monkeypatch):
    monkeypatch.setattr(your_data, '_MOST_IN_MEMORY', 10)
    monkeypatch.setenv('JEM_NB_CACHE', str(tmp_path / 'cache'))
    folder = folder_of(tmp_path / 'pets', dict(cat=12, dog=12))
    assert from_folder(folder).size == 8 and from_folder(folder, size=4).size == 4
    monkeypatch.chdir(tmp_path)
    assert len(from_folder('pets')['train']) == 16
    assert len(list((tmp_path / 'cache').iterdir())) == 2 # a relative path is the same folder


class Numbered(list):
    "A dataset with class names, as torchvision has them."
    def __init__(self, pairs, classes, target_transform=None):
        super().__init__(pairs)
        self.classes, self.target_transform = classes, target_transform
        self.targets = [y for _, y in pairs]

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x, self.target_transform(y) if self.target_transform else y


def test_classes_of_the_test_set():
    pairs = [(picture(), i % 3) for i in range(30)]
    train, other = Numbered(pairs, list('abc')), Numbered(pairs, list('abd'))
    with pytest.raises(ValueError, match='the test set has other classes: a, b, d'):
        from_dataset(train, test=other)


def test_labels_are_what_the_dataset_gives():
    pairs = [(picture(), i % 4) for i in range(40)]
    data = from_dataset(Numbered(pairs, ['even', 'odd'], lambda y: y % 2))
    assert data['train'].y.unique().tolist() == [0, 1]
    ones = from_dataset([(x, y + 1) for x, y in pairs])
    assert ones.classes == ('1', '2', '3', '4')


@pytest.mark.parametrize('image', [np.zeros((1, 8, 8), np.uint8), np.zeros((2, 1, 8, 8), np.uint8)])
def test_arrays_of_another_layout(image):
    with pytest.raises(ValueError, match=r'\(h, w\) or \(h, w, 3\) is wanted'): as_bytes(image, 8)


def test_names_in_an_array_and_wide_tensors():
    x = torch.zeros(20, 1, 8, 12, dtype=torch.uint8)
    with pytest.raises(ValueError, match='images of 8×12 pixels: square ones'):
        from_tensors(x, torch.arange(20) % 2)
    names = np.array(['cat', 'dog'])[np.arange(20) % 2]
    assert from_tensors(x, names, size=8).classes == ('cat', 'dog')


def test_random_transforms_are_named():
    "They would be drawn once and kept."
    g = np.random.default_rng(0)
    pictures = [g.integers(0, 256, (8, 8), np.uint8) for _ in range(40)]

    class Steady(list):
        def __getitem__(self, i): return Image.fromarray(pictures[i]), i % 2

    class Flipped(Steady): # as torchvision's RandomHorizontalFlip does it
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            if torch.rand(()) < .5: image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            return image, label

    with warnings.catch_warnings():
        warnings.simplefilter('error')
        from_dataset(Steady(pictures))
    with pytest.warns(UserWarning, match='Flipped gives another image'):
        from_dataset(Flipped(pictures))
    for seed in range(5):
        torch.manual_seed(seed)
        first = torch.rand(())
        torch.manual_seed(seed)
        data = Flipped(pictures)
        with pytest.warns(UserWarning, match='another image each time.*pad= and flip='):
            your_data._warn_of_chance('Flipped', lambda i: data[i][0], 40)
        assert torch.rand(()) == first # nothing was drawn from the generators of others


@pytest.mark.parametrize('x, y, words', [
    (np.zeros((20, 8, 8, 3), np.uint8), [0, 1] * 10, r'channels come first here, x.transpose'),
    (np.zeros((20, 1, 8, 8), np.uint8), np.eye(2)[[0, 1] * 10], r'y.argmax\(1\)'),
    (np.zeros((20, 1, 8, 8), np.uint8), [-1, 0] * 10, 'a label of -1 says that an image has none'),
])
def test_tensors_that_cannot_be(x, y, words):
    with pytest.raises(ValueError, match=words): from_tensors(x, y)


def test_two_classes_with_signs():
    "-1 and 1 are two classes, as some write them."
    data = from_tensors(np.zeros((20, 1, 8, 8), np.uint8), [-1, 1] * 10)
    assert data.classes == ('-1', '1')


def test_one_size_that_is_not_square(tmp_path):
    folder = folder_of(tmp_path / 'in', dict(cat=9, dog=9), size=(48, 40))
    with pytest.raises(ValueError, match='has images of 48×40 pixels: square ones are wanted'):
        from_folder(folder)
