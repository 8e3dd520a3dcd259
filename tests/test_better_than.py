"Which comparisons count as lost."
from jem_nb.results import BALANCE, FLAGSHIP, better_than, read_records, select


def test_a_gap_is_lost_to_nobody():
    "Of the gap between data and samples no mean is the better one, whichever way it differs."
    jems = select(read_records(FLAGSHIP), model='jem')
    for others in (jems[:1], jems[1:2], jems[2:]): # below and above the JEM's mean
        pair = [*jems, *(dict(r, model='direct') for r in others)]
        assert better_than(pair, figures=[BALANCE]) == []
