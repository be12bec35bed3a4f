"""Files below one directory, opened, written and renamed so that nothing outside it is touched."""
