"""`python -m bb`."""

from bb import main

main()
