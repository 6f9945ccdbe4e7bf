"""The kinds of videos: how people walk, meet and are dressed, and what the camera does."""

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind; lengths in the unit that is named.

    Attributes:
        people: fewest and most of a video.
        height: of a standing person, smallest and largest, image heights.
        speed: slowest and fastest, standing heights a frame.
        lanes: how far the lines that people walk on lie apart, image heights; 0: one for all.
        alike: 1 if all are dressed the same.
        pan: the camera swings so far to either side, image widths.
        pan_period: frames of a swing there and back.
        min_seen: joints seen of a person who is scored in a frame.
    """

    people: tuple[int, int]
    height: tuple[float, float]
    speed: tuple[float, float]
    lanes: float = 0.0
    alike: float = 0.0
    pan: float = 0.0
    pan_period: float = 1.0
    min_seen: int = 8


CROSSING = Kind(people=(3, 4), height=(0.6, 0.8), speed=(0.015, 0.03))
KINDS = {
    "walk": Kind(people=(2, 4), height=(0.35, 0.5), speed=(0.006, 0.015), lanes=0.35, min_seen=4),
    "fast": CROSSING._replace(speed=(0.09, 0.14)),
    "pan": CROSSING._replace(pan=0.2, pan_period=12.0),
    "crossing": CROSSING,
    "uniform": CROSSING._replace(alike=1.0),
}
MOST_PEOPLE = max(kind.people[1] for kind in KINDS.values())
MOST_PAN = max(kind.pan for kind in KINDS.values())
