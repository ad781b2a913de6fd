"""The command `arcanna-metrics`, with which operators and pipelines use a deployed stack.

`commands` has one module for each command. `command_line` imports it when the command is called. `deployed`
makes the AWS calls. `entries`, `executions`, `letters`, `checks`, `links` and `routing` are pure functions
that interpret the answers. `follow` waits for a run to end, `view` makes tables, `words` has the wording that
they share, and `output` prints.

`--help` and completion must be quick, and importing boto3 and rich takes ten times as long as all else. So a
module of a command imports at its top only what is as quick as its options, and the rest in its functions.
"""
