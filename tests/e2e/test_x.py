from .kit import App, Sidecar, ask


def test_x(app: App, proxy: Sidecar) -> None:
    a = ask(proxy.traffic, "/what?x=1")
    print(a)
    print(proxy.metrics())
    assert proxy.busy() == 0
