"""The real machine, store and service on a virtual clock, with a broker in memory and bad luck.

    .venv/bin/python -m tests.simulation --seed 1234     repeats one run and prints what happened

`world.py` runs one seed: `plan.py` says what is to happen, `adversary.py` lets things go wrong,
`ledger.py` watches every message that the broker stores and every ack, `verdict.py` looks at what
is left in the end. New definitions go into `flows.py`.
"""
