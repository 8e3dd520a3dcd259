"What 13_precision refuses, and what it says."
import pytest

from jem_nb.precision import choose

CASES = {
    'unknown type': (dict(precision='float16'), "precision='float16': choose one of auto"),
    'no type': (dict(precision=None), 'precision=None: choose one of auto, float32, bfloat16'),
    'unknown layout': (dict(channels_last='first'), "channels_last='first': choose one of auto"),
    'no layout': (dict(channels_last=None), 'channels_last=None: choose one of auto, True, False'),
}


@pytest.mark.parametrize('case', CASES)
def test_refusal(case):
    fields, message = CASES[case]
    with pytest.raises(ValueError, match=message): choose(**fields)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
@pytest.mark.parametrize('channels_last', [True, False])
def test_what_is_asked_for_is_kept(precision, channels_last):
    found = choose(precision, channels_last)
    assert (found.precision, found.channels_last) == (precision, channels_last)
    assert found.why == 'as asked'
