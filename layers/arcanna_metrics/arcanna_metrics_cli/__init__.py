"""What an operator does by hand to a deployed stack: look, ask, redrive, try a route, find what is wrong.

`deployed` makes the AWS calls. `entries`, `executions`, `letters`, `checks` and `routing` are pure and say
what the answers mean. `follow` waits for a run to end, and `view` prints.
"""
