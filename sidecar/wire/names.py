"""What to do with a field, by the spelling of its name: one dictionary look-up for each field that goes by.

The tables learn new spellings as they come, short ones only, and forget them all when they are full, so that a stranger
can neither fill them with megabytes nor keep them from learning.

Two rules that attackers taught:
- `Connection` cannot be used to remove what frames, routes or identifies a message (`UNLISTABLE`).
- A name that differs from one of ours only by `_` for `-` is dropped: CGI, WSGI and their kin cannot tell them apart.
"""

__all__ = ["REQUEST_NAMES", "RESPONSE_NAMES", "UNLISTABLE", "tokens"]

(
    PASS,
    DROP,
    HOST,
    CONNECTION,
    TRANSFER_ENCODING,
    CONTENT_LENGTH,
    EXPECT,
    UPGRADE,
    VIA,
    FORWARDED_FOR,
    FORWARDED_OTHER,
    FORWARDED,
    REQUEST_ID,
    TRACEPARENT,
    TRACESTATE,
    MAX_FORWARDS,
    DATE,
) = range(17)

_REQUEST_FIELDS = {
    b"host": HOST,
    b"connection": CONNECTION,
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"proxy": DROP,  # CGI reads it as HTTP_PROXY, a setting (https://httpoxy.org)
    b"te": DROP,
    b"http2-settings": DROP,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"content-length": CONTENT_LENGTH,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"via": VIA,
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-proto": FORWARDED_OTHER,
    b"x-forwarded-host": FORWARDED_OTHER,
    b"x-forwarded-port": FORWARDED_OTHER,
    b"x-forwarded-prefix": FORWARDED_OTHER,
    b"x-forwarded-server": FORWARDED_OTHER,
    b"x-forwarded-ssl": FORWARDED_OTHER,
    b"x-forwarded-scheme": FORWARDED_OTHER,
    b"x-real-ip": FORWARDED_OTHER,
    b"forwarded": FORWARDED,
    b"x-request-id": REQUEST_ID,
    b"traceparent": TRACEPARENT,
    b"tracestate": TRACESTATE,
    b"max-forwards": MAX_FORWARDS,
}
_RESPONSE_FIELDS = {
    b"connection": CONNECTION,
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"te": DROP,
    b"upgrade": UPGRADE,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"content-length": CONTENT_LENGTH,
    b"date": DATE,
    b"x-request-id": REQUEST_ID,
}

# Fields that listing them in `Connection` does not remove.
UNLISTABLE = frozenset(
    {
        b"authorization",
        b"cache-control",
        b"close",
        b"content-length",
        b"content-type",
        b"cookie",
        b"date",
        b"host",
        b"keep-alive",
        b"set-cookie",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)

_MAX_LEARNT = 2048
_MAX_NAME = 64


class Names:
    """What to do with a field, by the spelling of its name."""

    __slots__ = ("codes", "fields")

    def __init__(self, fields: dict[bytes, int]) -> None:
        self.fields = fields
        self.codes = dict(fields)

    def learn(self, name: bytes) -> int:
        """Classify a spelling not seen before."""
        lower = name.lower()
        code = self.fields.get(lower, PASS)
        folded = lower.replace(b"_", b"-")
        forwarded = self.fields is _REQUEST_FIELDS and folded.startswith(b"x-forwarded")
        if code == PASS and folded != lower and (folded in self.fields or forwarded):
            code = DROP
        elif code == PASS and forwarded:
            code = FORWARDED_OTHER
        if len(name) <= _MAX_NAME:
            if len(self.codes) >= _MAX_LEARNT:
                self.codes.clear()
                self.codes.update(self.fields)
            self.codes[name] = code
        return code


REQUEST_NAMES = Names(_REQUEST_FIELDS)
RESPONSE_NAMES = Names(_RESPONSE_FIELDS)


def tokens(value: bytes) -> list[bytes]:
    """Give the members of a comma-separated list, in lower case."""
    return [token for part in value.lower().split(b",") if (token := part.strip(b" \t"))]
