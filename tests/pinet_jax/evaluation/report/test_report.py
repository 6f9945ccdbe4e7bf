"""The report is one whole HTML file that loads nothing from anywhere."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pinet_jax import skeletons, visualize
from pinet_jax.errors import UserError
from pinet_jax.evaluation import crowding, report, scoring
from pinet_jax.evaluation.report.worst import NUM_WORST
from tests.pinet_jax.evaluation.scoring_cases import MOST, perturbed_crowd, write_truth

COCO = skeletons.COCO
NUM_IMAGES = 12
VOID = {"meta", "img", "br"}
LOADING = {"src", "href", "data", "action", "srcset", "poster", "background"}
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "div", "table"),
    *("thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img", "details", "summary"),
    "pre",
}


class StrictParser(HTMLParser):
    """Collects text and pictures; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.pictures, self.texts, self.tables = [], [], {}, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS
        assert not [name for name, _ in attrs if name.startswith("on")]
        for name, value in attrs:
            if name in LOADING:
                assert (tag, name) == ("img", "src") and value.startswith("data:image/")
                self.pictures.append((value, dict(attrs)["alt"]))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.setdefault(self.open[-1], []).append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def decoded(source):
    kind, content = re.fullmatch(r"data:image/(png|jpeg);base64,(.*)", source).groups()
    image = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
    assert image.format.lower() == kind
    return image.convert("RGB")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    annotations, results = perturbed_crowd(np.random.default_rng(5), COCO, NUM_IMAGES)
    path = tmp_path_factory.mktemp("scored") / "truth.json"
    write_truth(path, annotations, range(1, NUM_IMAGES + 1))
    return scoring.match(results, path, COCO, MOST)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Writes a report and returns it parsed."""
    folder = tmp_path_factory.mktemp("report")

    def write(scorer, load_images=None):
        metrics = scoring.metrics(scorer)
        levels = crowding.levels(scorer, (0.0, 0.5, 1.0))
        crowding.plot(levels, folder / "crowding.png")
        report.write_report(
            folder / "report.html",
            scorer,
            COCO,
            metrics,
            crowding=(folder / "crowding.png").read_bytes(),
            about={"data": "<script>alert(1)</script> & co", "date": "today"},
            config='{"a": "</pre><b>"}',
            load_images=load_images,
        )
        return metrics, StrictParser((folder / "report.html").read_text(encoding="utf-8"))

    return write


@pytest.fixture(scope="module")
def grey_images():
    """Grey images of several sizes, and the ids that were asked for."""
    asked = []

    def load(image_ids):
        asked.extend(image_ids)
        return [np.full((200 + 40 * i, 300, 3), 128, np.uint8) for i in range(len(image_ids))]

    return load, asked


@pytest.fixture(scope="module")
def with_pictures(scored, written, grey_images):
    return written(scored, grey_images[0])


def test_the_page_is_whole_and_says_what_it_is_of(with_pictures):
    _, parsed = with_pictures
    assert parsed.texts["h1"] == ["Evaluation of <script>alert(1)</script> & co"]
    assert ["date", "today"] in parsed.tables[0]
    assert parsed.texts["pre"] == ['{"a": "</pre><b>"}']
    assert parsed.texts["h2"] == [
        *("Metrics", "Precision and recall", "OKS", "Crowding", "Score calibration", "Errors"),
        *("Worst images", "Config"),
    ]


def test_the_metrics_are_in_the_table(with_pictures):
    metrics, parsed = with_pictures
    names, values = parsed.tables[1]
    assert names == list(metrics)
    assert values == [f"{100 * value:.1f}" if value >= 0 else "-" for value in metrics.values()]


def test_every_picture_decodes_and_shows_something(with_pictures):
    _, parsed = with_pictures
    assert len(parsed.pictures) == 5 + 2 * NUM_WORST
    for source, alt in parsed.pictures:
        pixels = np.asarray(decoded(source), int)
        assert alt and min(pixels.shape[:2]) > 150 and pixels.std() > 1


def test_the_worst_images_are_drawn_with_their_people(with_pictures, grey_images, scored):
    _, parsed = with_pictures
    titles = parsed.texts["h3"]
    assert [int(re.match(r"image (\d+): ", title)[1]) for title in titles] == grey_images[1]
    assert parsed.texts["figcaption"] == ["prediction", "truth"] * NUM_WORST
    # By hand: at OKS 0.5, persons without a match and detections with none.
    errors = {}
    for image in scored.images(0.5):
        shown = sum(d["score"] >= visualize.MIN_SCORE for d in image.detections)
        matched = image.person_of[:shown].tolist()
        to_find = [n for n, p in enumerate(image.persons) if p["num_keypoints"]]
        to_find = [n for n in to_find if not image.persons[n]["iscrowd"]]
        errors[image.image_id] = len(set(to_find) - set(matched)) + matched.count(-1)
    expected = sorted(errors, key=lambda image_id: (-errors[image_id], image_id))
    assert grey_images[1] == expected[:NUM_WORST]


def test_numbers_of_the_error_tables_add_up(with_pictures, scored):
    _, parsed = with_pictures
    tables = {table[0][0]: table[1:] for table in parsed.tables}
    persons = dict((row[0], int(row[1])) for row in tables["persons"])
    to_find = [p for p in scored.truth.persons if p["num_keypoints"] and not p["iscrowd"]]
    assert sum(persons.values()) == len(to_find)
    # AR50 is the share of the persons found, of all detections.
    assert persons["found"] / len(to_find) == pytest.approx(scored.scores(["AR50"])["AR50"])
    detections = dict((row[0], int(row[1])) for row in tables["detections"])
    assert detections["right"] == persons["found"] and detections["poor"] == persons["poor"]
    assert sum(int(row[1]) for row in tables["score"]) == sum(detections.values())
    keypoints = sum(int(row[1]) for row in tables["keypoints"])
    assert keypoints == sum(int(row[1]) for row in tables["keypoint"])
    assert len(tables["keypoint"]) == COCO.num_keypoints
    for table in ("persons", "detections", "keypoints"):
        for column in (2, 4):
            assert sum(float(row[column]) for row in tables[table]) == pytest.approx(100, abs=0.3)


def test_without_pictures_the_worst_images_are_listed(scored, written):
    def refuse(_):
        raise UserError("the disk is gone")

    for load, said in ((None, False), (refuse, True)):
        _, parsed = written(scored, load)
        assert len(parsed.pictures) == 5
        header, *rows = parsed.tables[-1]
        assert header == ["image", "errors"] and len(rows) == NUM_WORST
        assert all(re.match(r"image \d+", row[0]) for row in rows)
        assert any("the disk is gone" in text for text in parsed.texts["p"]) is said


def test_a_split_without_people_or_detections_has_a_report(tmp_path, written):
    path = write_truth(tmp_path / "truth.json", [], [1, 2])
    _, parsed = written(scoring.match([], path, COCO, MOST))
    assert set(parsed.tables[1][1]) == {"-"} and len(parsed.pictures) == 5


def test_precision_curves_are_what_ap_is_the_mean_of(scored):
    curves = scored.precision_curves()
    assert curves.precision.shape == (len(curves.thresholds), len(curves.recall)) == (10, 101)
    scores = scored.scores(["AP", "AP75"])
    assert curves.precision.mean() == pytest.approx(scores["AP"])
    assert curves.precision[5].mean() == pytest.approx(scores["AP75"])
    assert curves.thresholds[5] == pytest.approx(0.75)


def test_the_best_detections_alone_match_as_if_there_were_no_others(tmp_path):
    annotations, results = perturbed_crowd(np.random.default_rng(6), COCO, NUM_IMAGES)
    path = write_truth(tmp_path / "truth.json", annotations, range(1, NUM_IMAGES + 1))
    all_of_them, three = (scoring.match(results, path, COCO, most) for most in (MOST, 3))
    compared = zip(all_of_them.images(0.5), three.images(0.5), strict=True)
    for image, expected in compared:
        best = image.best(3)
        assert best.image_id == expected.image_id
        assert [d["score"] for d in best.detections] == [d["score"] for d in expected.detections]
        np.testing.assert_array_equal(best.person_of, expected.person_of)
        np.testing.assert_array_equal(best.oks, expected.oks)
        assert not len(best.oks) or not best.persons or best.oks.max() > 0
