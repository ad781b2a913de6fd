"""`make deploy`: creates a working stack from an address and a key, and updates it.

What people give is read in `given`, without AWS; `account` asks and tells AWS; `__main__` does one after the
other. Nothing is built before all that was given has been checked. What is built and deployed is what
`sam build` and `sam deploy` make of the template, and both commands are printed as one could type them.
"""
