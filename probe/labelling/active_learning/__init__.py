"""Which images to label next, the file that answers go to, and what further labels would bring."""
