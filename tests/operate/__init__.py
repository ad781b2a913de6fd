"""What an operator does by hand to a deployed stack: look, ask, re-drive, try a route, find what is wrong.

`deployed` makes the AWS calls, `models`, `letters`, `checks` and `routing` are pure and say what the answers
mean, `view` prints it.
"""
