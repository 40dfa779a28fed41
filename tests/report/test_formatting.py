"""A column of quantities is in one unit."""

from hypothesis import given
from hypothesis import strategies as st

from resflow.report.formatting import NONE, count, duration, one_unit
from resflow.report.tables import make_table

SIZES = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "s": 1, "min": 60, "h": 3600}
amounts = st.lists(st.floats(1, 1e12), min_size=2, max_size=8)


@given(amounts, st.sampled_from([count, duration]))
def test_a_column_has_one_unit_and_loses_no_amount(values, form):
    texts = one_unit([form(value) for value in values])
    assert len({text.partition(" ")[2] for text in texts}) == 1
    assert len({len(text.split()[0].partition(".")[2]) for text in texts}) == 1
    for value, text in zip(values, texts, strict=True):
        number, _, unit = text.partition(" ")
        half_a_digit = 0.5 / 10 ** len(number.partition(".")[2])
        assert float(number.replace(",", "")) > 0
        assert abs(float(number.replace(",", "")) - value / SIZES[unit]) <= half_a_digit * (1 + 1e-9)


def test_seconds_do_not_stand_above_minutes():
    rows = [
        {"Arm": "a", "Time": duration(59)},
        {"Arm": "b", "Time": duration(144)},
        {"Arm": "c", "Time": duration(None)},
    ]
    assert [row[1] for row in make_table("T", rows, {"Arm"}).rows] == ["1.0 min", "2.4 min", NONE]
    assert one_unit([duration(1), duration(7200)]) == ["1 s", "7,200 s"]
    assert one_unit([count(20_400_000), count(1_250_000_000)]) == ["20.4 M", "1,250.0 M"]


def test_a_quantity_alone_keeps_its_own_unit():
    assert [duration(59), duration(144), duration(9000), count(1_234_567), count(12)] == [
        "59 s", "2.4 min", "2.5 h", "1.23 M", "12",
    ]  # fmt: skip
    assert one_unit(["", duration(59)]) == ["", "59 s"]
