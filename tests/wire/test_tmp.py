from tests.wire.kit import Gateway, get
async def test_hello(gate: Gateway):
    r = await gate.ask(get(b"/x"))
    print(r, gate.upstream.requests, gate.records)
    assert r.status == 200
