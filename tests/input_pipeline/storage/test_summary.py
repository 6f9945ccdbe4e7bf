from input_pipeline.storage import summary

COUNTS = dict.fromkeys(summary.ROWS, 1)


def of(**fields) -> dict:
    return {"counts": {**COUNTS, **fields}, "skipped": {}}


def test_a_column_a_split_and_a_row_a_count():
    one, other = of(images=12345), {**of(persons=7), "skipped": {"area of zero": 3}}
    lines = summary.table({"train": one, "val": other}).splitlines()
    assert lines[0].split() == ["train", "val"]
    rows = {line[:34].strip(): line[34:].split() for line in lines[1:]}
    assert rows["images"] == ["12,345", "1"]
    assert rows["persons with keypoints"] == ["1", "7"]
    assert rows["skipped: area of zero"] == ["0", "3"]
    assert len(set(map(len, lines))) == 1


def test_nothing_skipped_is_said():
    assert summary.table({"val": of()}).endswith("skipped: nothing")


def test_published_counts_are_compared_where_all_of_their_splits_are_there():
    counts = {
        "val": {"images": 2500},
        "test": {"images": 9},
        "val+test": {"persons": 8110, "images": "about 5,000"},
        "train": {"images": 1},
    }
    found = {"val": of(images=2500, persons=8000), "test": of(images=2231, persons=110)}
    assert summary.published(found, counts).splitlines()[1:] == [
        "  val: images 2,500, here 2,500: matches",
        "  test: images 9, here 2,231: differs",
        "  val+test: persons with keypoints 8,110, here 8,110: matches",
        "  val+test: images about 5,000, here 4,731",
    ]


def test_a_dataset_without_published_counts_has_no_line():
    assert summary.published({"val": of()}, {}) == ""
