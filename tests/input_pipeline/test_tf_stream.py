import subprocess
import sys

import numpy as np
import pytest

from input_pipeline.quiet_tf import tf
from input_pipeline.tf_stream import numpy_stream
from tests.paths import ROOT

pytestmark = pytest.mark.slow

STOP_AMID_A_STREAM = """
import numpy as np
from input_pipeline.quiet_tf import tf
from input_pipeline.tf_stream import numpy_stream

def work(n):
    return np.sort(np.random.default_rng(n).random(100_000))[:1]

dataset = tf.data.Dataset.range(10**9).map(
    lambda n: tf.numpy_function(work, [n], tf.float64), num_parallel_calls=4
)
stream = numpy_stream(dataset.prefetch(8))
next(stream)
"""


def test_elements_come_in_order_as_numpy():
    stream = numpy_stream(tf.data.Dataset.range(3).map(lambda n: {"n": n}))
    elements = list(stream)
    assert [element["n"] for element in elements] == [0, 1, 2]
    assert isinstance(elements[0]["n"], np.int64)


def test_a_program_may_stop_amid_a_stream():
    done = subprocess.run(
        [sys.executable, "-c", STOP_AMID_A_STREAM], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
