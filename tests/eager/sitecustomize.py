"""On the path of a process under test, makes it publish a segment after every batch."""

import store.writer

store.writer.MAX_SECONDS = 0.0
