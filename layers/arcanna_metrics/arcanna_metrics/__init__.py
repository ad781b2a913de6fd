"""Keeps the performance metrics of Arcanna.ai models fresh.

An *update* is "the training data of this target changed at time T"; a *run* is one recompute of one target,
from its claim to its release.
"""
