"""Engines that run command lines and streams on many machines. They know nothing of images, models or labels."""
