"""Tests, and what they and the demo stand on: the platform, the cloud, and the ways to operate a stack."""

from functools import cache

import botocore.session

# Every session would read AWS's descriptions of its services again: tests make hundreds, moto some.
botocore.session.create_loader = cache(botocore.session.create_loader)
