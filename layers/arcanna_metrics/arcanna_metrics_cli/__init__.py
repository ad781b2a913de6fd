"""`arcanna-metrics`: what an operator or a pipeline does to a deployed stack.

`commands` has one module for each command, which `command_line` imports when it is called. `deployed` makes
the AWS calls. `entries`, `executions`, `letters`, `checks`, `links` and `routing` are pure and say what the
answers mean. `follow` waits for a run to end, `view` makes tables, and `output` prints.

`--help` and completion must be quick. So modules of commands import at their top only what their options
need, and the rest in their functions: boto3 and rich take ten times as long as all else.
"""
