"""`make deploy`: creates a working stack from an address and a key, and updates it.

`given` reads the arguments, without AWS. `account` makes the calls to AWS. `__main__` runs the steps. It
checks all arguments before it builds anything. `sam build` and `sam deploy` build and deploy the template,
and both commands are printed so that they can be copied.
"""
