"""Errors travel: between processes (multiprocessing, concurrent.futures) as between functions."""

import pickle

import pytest

from wf import errors

EXAMPLES = {
    errors.ConfigError: errors.ConfigError(["first", "second"]),
    errors.DefinitionError: errors.DefinitionError(
        [errors.Problem("a.yaml", 1, 2, "/do/0", "is wrong"), "another"]
    ),
    errors.WorkflowFaulted: errors.WorkflowFaulted("broke", instance="a", error={"status": 500}),
    errors.ActivityError: errors.ActivityError("no", type="https://x", title="No", status=402),
}


def kinds(root=errors.WfError):
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize("kind", sorted(set(kinds()), key=lambda kind: kind.__qualname__))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling_with_all_that_it_says(kind, protocol):
    error = EXAMPLES.get(kind)
    if error is None:
        error = kind.__new__(kind, "said")
        error.noted = {"status": 1}
    error.add_note("seen on the way")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is kind
    assert (str(again), again.args, again.__dict__) == (str(error), error.args, error.__dict__)
