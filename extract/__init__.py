"""Images to features. The hash of this folder is taken before any of its modules runs: it is part of what they make."""

from extract.code import AT_START as AT_START
