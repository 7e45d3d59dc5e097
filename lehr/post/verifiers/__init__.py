"""Verifiable rewards: named checks of a response (OLMo 2 section 5: RLVR). All return 1.0 or 0.0, except `reasoning_gym`, whose
scores lie between.

A response without the end-of-turn token always gets 0.0. Arguments are plain JSON, so that prompts can be written to files
together with their verifiers; `check_args` says what is wrong with them before any training.
"""

from lehr.post.verifiers.arguments import Args
from lehr.post.verifiers.listed import VERIFIERS, check_args, verifier, verify
from lehr.post.verifiers.texts import has_prefix, last_integer

__all__ = ["VERIFIERS", "Args", "check_args", "has_prefix", "last_integer", "verifier", "verify"]
