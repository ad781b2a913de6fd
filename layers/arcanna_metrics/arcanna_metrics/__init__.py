"""Keeps the performance metrics of Arcanna.ai models fresh.

An *update* is "the training data of this model changed at time T"; a *run* is one recompute of one model's
metrics, from its claim in the ledger to the release of the model.
"""
