"""What a route asks of the cache when it says nothing more."""

from sidecar.policy.cache_settings import CacheSettings


def test_by_default_the_origin_decides_and_identical_requests_become_one() -> None:
    assert CacheSettings() == CacheSettings(
        fresh_for=None,
        stale_while_revalidate=0.0,
        stale_if_error=0.0,
        coalesce=True,
        override_origin=False,
        keep_for=0.0,
        serve_fresh=True,
        max_body=1_048_576,
    )
