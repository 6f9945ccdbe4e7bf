from pinet_jax.runtime import tables


def test_names_stand_to_the_left_and_figures_to_the_right():
    rows = [("", "images", "AP"), ("train", "12,345", "7"), ("a longer name", "1", "67.40")]
    assert tables.aligned(rows).split("\n") == [
        "               images     AP",
        "train          12,345      7",
        "a longer name       1  67.40",
    ]


def test_cells_are_shown_as_they_are():
    assert tables.aligned([("a", "1.500", "-", "1e3", ""), ("b", "2.0", "0010", "", "x")]) == (
        "a  1.500     -  1e3\nb    2.0  0010       x"
    )
