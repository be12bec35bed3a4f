"""On the path of a process under test, makes it say when features were added to a segment.

With EAGER in the environment, it publishes a segment after every batch.
"""

import os
import sys

import bb.store.segment_writer

add = bb.store.segment_writer.SegmentWriter.add


def announced(self, *arguments):
    add(self, *arguments)
    print("features added", file=sys.stderr, flush=True)


bb.store.segment_writer.SegmentWriter.add = announced  # type: ignore[method-assign]
if "EAGER" in os.environ:
    bb.store.segment_writer.MAX_SECONDS = 0.0
