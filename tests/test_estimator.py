"scikit-learn's own checks of an estimator, run on ours, and its tools that take one."
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris, make_blobs
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from jem_nb.estimator import JEMClassifier

QUICK = JEMClassifier(hidden=(32,), n_epochs=25, n_steps=3, lr=.01, random_state=0)
EXPECTED = {}  # checks that it fails, and why: none


@parametrize_with_checks([QUICK], expected_failed_checks=lambda e: EXPECTED)
def test_scikit_learns_checks(estimator, check): check(estimator)


@pytest.fixture(scope='module')
def iris(): return load_iris(return_X_y=True)


def test_its_tools_take_it(iris):
    X, y = iris
    search = GridSearchCV(QUICK, dict(px_weight=[0., 1.]), cv=2).fit(X, y)
    assert search.best_score_ > .8
    calibrated = CalibratedClassifierCV(QUICK, cv=2).fit(X, y)
    assert calibrated.predict_proba(X).shape == (150, 3)
    assert cross_val_score(make_pipeline(StandardScaler(), QUICK), X, y, cv=2).min() > .8


def test_names_as_labels_and_frames(iris):
    import pandas as pd
    X, y = iris
    names = np.array(['setosa', 'versicolor', 'virginica'])[y]
    frame = pd.DataFrame(X, columns=list('abcd'))
    model = clone(QUICK).fit(frame, names)
    assert set(model.predict(frame)) <= set(names) and list(model.feature_names_in_) == list('abcd')


def test_one_seed_one_model(iris):
    X, y = iris
    a, b = (clone(QUICK).fit(X, y) for _ in range(2))
    other = clone(QUICK).set_params(random_state=1).fit(X, y)
    assert np.array_equal(a.score_samples(X), b.score_samples(X))
    assert not np.array_equal(a.score_samples(X), other.score_samples(X))
    kept = pickle.loads(pickle.dumps(a))
    assert np.array_equal(kept.predict_proba(X), a.predict_proba(X))


def test_global_random_state_is_left_alone(iris):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    clone(QUICK).fit(*iris)
    assert torch.equal(before, torch.get_rng_state())


def test_far_away_is_less_likely():
    X, y = make_blobs(300, centers=[[-2, 0], [2, 0]], cluster_std=.6, random_state=0)
    model = JEMClassifier(random_state=0).fit(X, y)
    far = np.array([[12., 0.], [-12., 3.], [0., 9.]])
    assert model.score_samples(far).max() < np.percentile(model.score_samples(X), 5)


def test_one_class_and_divergence(iris):
    X, y = iris
    with pytest.raises(ValueError, match='two classes at least'): clone(QUICK).fit(X, np.zeros(150))
    with pytest.raises(ValueError, match='has diverged: make step_size'):
        clone(QUICK).set_params(step_size=1e30).fit(X, y)


@pytest.mark.parametrize('wrong', [dict(hidden=64), dict(batch_size=0), dict(n_epochs=0),
                                   dict(px_weight=-1.)], ids=str)
def test_parameters_that_cannot_work(wrong, iris):
    with pytest.raises(ValueError, match=f'{next(iter(wrong))}='):
        clone(QUICK).set_params(**wrong).fit(*iris)
