"""Inputs: events of all kinds, and the routes from an object's key to its targets."""
