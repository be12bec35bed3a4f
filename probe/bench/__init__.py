"""Every family on disk by every complete backbone by the classifiers asked for, in one call; see facade.py."""
