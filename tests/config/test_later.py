"""Keys of later versions are known where they will stand, and nowhere else."""

from sidecar.config.later import LATER, belongs_to_a_later_version
from sidecar.config.model import Limits


def test_the_keys_are_known_where_they_will_stand() -> None:
    assert all(belongs_to_a_later_version(key, model) for model, keys in LATER.items() for key in keys)
    assert not belongs_to_a_later_version("admin", Limits)


def test_no_key_of_this_version_is_one_of_a_later_one() -> None:
    assert [key for model, keys in LATER.items() for key in keys if key in model.model_fields] == []
