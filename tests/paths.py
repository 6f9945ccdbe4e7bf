"""Where things are that tests read."""

import pathlib

TESTS = pathlib.Path(__file__).resolve().parent
ROOT = TESTS.parent
GOLDEN = TESTS / "golden"
DATA = ROOT.parent / "shared" / "data"  # real samples; tests skip where they are absent
