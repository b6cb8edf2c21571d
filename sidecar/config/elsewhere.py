"""What other programs call a key, by the mapping that it stands in: from there to its key here.

The words are those of Envoy, nginx, HAProxy, resilience4j, Polly, gobreaker and the like. They are looked up before
the spelling is, because what is spelt alike is often not what is meant: a `failure_threshold` is no `failure_rate`.
"""

from collections.abc import Mapping

from pydantic import BaseModel

from sidecar.config.model import Config, Listen, Match, RouteConfig, Timeouts, UpstreamConfig
from sidecar.config.observing import (
    AdminConfig,
    HealthConfig,
    LogConfig,
    OtelConfig,
    ReadinessConfig,
    ReloadConfig,
    SentryConfig,
    TelemetryConfig,
)
from sidecar.config.policies import (
    BreakerConfig,
    BulkheadConfig,
    CacheConfig,
    HalfOpen,
    RateLimitConfig,
    RetryBudgetConfig,
    RetryConfig,
    SlowCall,
    StaleStep,
    StaticStep,
    StoreConfig,
)

__all__ = ["ELSEWHERE", "known_as"]

_ATTEMPTS = "write `retries`, which is one less: it does not count the first attempt"

# By key, or by what to write where that is more than another key: the words for it, with spaces between them.
_WORDS: Mapping[type[BaseModel], Mapping[str, str]] = {
    AdminConfig: {
        "token": "password secret key apikey bearer bearertoken auth credentials",
        "hosts": "host hostnames allowedhosts allowhosts origins allowedorigins vhosts",
        "write `listen: {admin: …}` at the top": "listen address addr port bind socketaddress",
    },
    BreakerConfig: {
        "consecutive_failures": "threshold failurethreshold failures maxfailures failmax maxfails errorthreshold "
        "errors consecutive5xx consecutiveerrors exceptionsallowedbeforebreaking",
        "failure_rate": "failureratethreshold failureratio failurepercentage failurepercentagethreshold errorrate "
        "errorpercentage errorratio errorthresholdpercentage errorpercentthreshold",
        "open_for": "resettimeout recoverytimeout opentimeout openduration opentime "
        "sleepwindow cooldown cooloff breakduration durationofbreak baseejectiontime waitdurationinopenstate "
        "failtimeout waitduration",
        "open_max": "maxejectiontime maxopen maxopenfor maxwaitdurationinopenstate",
        "window": "interval slidingwindow slidingwindowsize samplingduration rollingwindow rollingduration "
        "statisticalwindow",
        "min_requests": "minimumnumberofcalls minimumcalls mincalls minimumrequests minimumthroughput "
        "requestvolumethreshold requestvolume volumethreshold minvolume",
        "count": "statuses statuscodes failureon failureson failurestatuses failurecodes recordexceptions",
        "write `half_open: {max_concurrent: …}`": "permittednumberofcallsinhalfopenstate halfopenrequests "
        "halfopenmax halfopenmaxrequests halfopenmaxcalls",
        "write `half_open: {successes: …}`": "successthreshold successes halfopensuccesses",
        "write `slow_call: {rate: …}`": "slowcallratethreshold slowrate",
        "write `slow_call: {duration: …}`": "slowcalldurationthreshold slowthreshold slow",
    },
    Config: {
        "write `listen: {ops: …}`; the metrics are at its `/metrics`": "metrics prometheus stats",
        "write `health: {…}` in the upstream": "health healthcheck healthchecks healthprobe probes livenessprobe",
        "readiness": "ready readinessprobe readinessgate",
        "log": "logging logs logger applog",
        "write `log: {level: …}`": "loglevel verbosity",
        "write `log: {format: …}`": "logformat",
        "access_log": "accesslogs accesslogging requestlog",
        "write `telemetry: {otel: …}`": "otel otlp opentelemetry tracing traces",
        "write `telemetry: {sentry: …}`": "sentry",
        "write `listen: {admin: …}`": "management dashboard",
        "headers": "responseheaders",
        "reload": "watch autoreload hotreload",
    },
    HalfOpen: {
        "max_concurrent": "requests maxrequests permits permittedcalls calls trials concurrency",
        "successes": "successthreshold",
        "max_wait": "timeout maxwaitduration",
    },
    SlowCall: {
        "duration": "threshold durationthreshold latency time",
        "rate": "ratethreshold percentage percent ratio",
    },
    BulkheadConfig: {
        "max_concurrent": "concurrency maxconcurrency maxconcurrentcalls maxconcurrentrequests maxparallelization "
        "maxparallel limit permits permitlimit slots size maxrequests maxconnections",
        "max_queue": "queue queuesize queuelength queuelimit queuecapacity maxqueuesize maxqueuelength maxqueued "
        "maxpending maxpendingrequests maxqueuingactions maxwaiting backlog",
        "queue_timeout": "timeout maxwait maxwaitduration maxwaittime waittimeout queuewait acquiretimeout",
    },
    RetryConfig: {
        _ATTEMPTS: "attempts maxattempts tries maxtries maxretryattempts retryattempts totalattempts",
        "retries": "count times maxretries numretries retrycount limit",
        "retry_on": "on when conditions statuses statuscodes retryif retryablestatuscodes retryonexceptions "
        "nextupstream retryexceptions codes",
        "strategy": "backoff backofftype backoffstrategy backoffpolicy policy",
        "base": "delay wait waitduration basedelay initialdelay initialinterval initialbackoff baseinterval "
        "minbackoff interval backoffbase mindelay",
        "max": "maxdelay maxinterval maxbackoff maxwait backoffmax maxwaitduration",
        "multiplier": "factor exponent exponentialbase backofffactor backoffmultiplier "
        "exponentialbackoffmultiplier",
        "body_buffer": "buffer bodysize maxbody bufferlimit buffersize",
        "budget": "retrybudget",
        "write `timeout: {attempt: …}` in the route": "timeout pertrytimeout perattempttimeout attempttimeout trytimeout",
    },
    RetryBudgetConfig: {
        "ratio": "percent percentage budgetpercent retryratio",
        "min_per_second": "minretriespersecond minimum minretryconcurrency",
        "window": "ttl",
    },
    RateLimitConfig: {
        "limit": "rate rps requestspersecond requests permitspersecond limitforperiod average permitlimit "
        "tokensperfill fillrate",
        "write it into `limit`, behind the `/`": "period per window interval unit limitrefreshperiod "
        "fillinterval requestsperunit",
        "burst": "maxtokens bucketsize capacity burstsize",
        "key": "by keyby perclient zone descriptor descriptors source",
        "fields": "headers",
    },
    CacheConfig: {
        "fresh_for": "ttl maxage expires expiration expiry lifetime duration defaultttl cachevalid valid",
        "stale_while_revalidate": "swr revalidate staleforrevalidate backgroundupdate grace",
        "stale_if_error": "usestale stale keep servestale",
        "coalesce": "coalescing lock collapse collapsing cachelock singleflight",
        "override_origin": "override ignoreorigin ignoreheaders ignorecachecontrol force",
        "write `store: {max_bytes: …}` at the top": "maxbytes maxsize size memory",
        "write `store: {max_entries: …}` at the top": "maxentries maxitems",
    },
    StoreConfig: {
        "max_bytes": "size maxsize memory",
        "max_entries": "entries items maxitems maxkeys",
        "max_body": "maxobjectsize maxfilesize maxitemsize maxentrysize",
    },
    HealthConfig: {
        "path": "uri url httppath healthpath endpoint",
        "host": "hostname hostheader authority",
        "method": "verb httpmethod",
        "interval": "inter every period periodseconds intervalseconds",
        "timeout": "timeoutseconds deadline maxtime",
        "expect": "status statuses statuscodes expectedstatus expectedstatuses expectstatus expectedcodes codes ok",
        "fall": "unhealthythreshold failurethreshold failures fails maxfails maxfailures",
        "rise": "healthythreshold successthreshold successes passes",
        "jitter": "intervaljitter intervaljitterpercent spread spreadchecks",
    },
    Listen: {
        "traffic": "http proxy listener address addr bind",
        "ops": "metrics prometheus health healthcheck probes stats",
        "admin": "management dashboard api control",
    },
    LogConfig: {
        "format": "encoder encoding style type formatter",
        "level": "loglevel verbosity severity threshold",
        "sample": "sampling samplerate samplingrate rate percent",
        "query": "queries querystring logquery",
        "write `access_log: …` at the top": "access accesslog requests",
    },
    OtelConfig: {
        "endpoint": "url uri address collector collectorurl exporterendpoint host",
        "service_name": "service name application",
        "sample": "sampling sampler samplerate samplingrate ratio traceratio percent",
        "headers": "header metadata auth",
        "timeout": "exporttimeout deadline",
    },
    ReadinessConfig: {
        "require_upstream": "upstream upstreams requireupstreams checkupstream dependencies requires",
    },
    ReloadConfig: {"watch": "auto autoreload watchfile onchange hotreload"},
    SentryConfig: {
        "dsn": "url endpoint key",
        "environment": "env stage",
        "sample": "sampling samplerate errorsamplerate rate percent",
    },
    TelemetryConfig: {
        "otel": "otlp opentelemetry tracing traces trace collector",
        "sentry": "errors errorreporting reports",
        "write `listen: {ops: …}` at the top; the metrics are at its `/metrics`": "metrics prometheus",
    },
    StaleStep: {"max_age": "ttl age maxstale lifetime staleiferror for"},
    StaticStep: {
        "status": "code statuscode",
        "content_type": "type mime mimetype mediatype",
        "body": "content text json response data",
    },
    Timeouts: {
        "attempt": "pertry pertrytimeout perattempt request requesttimeout response responsetimeout read "
        "readtimeout proxyreadtimeout",
        "total": "overall global globaltimeout deadline",
        "idle": "idletimeout streamidle streamidletimeout",
        "write `connect_timeout` in the upstream": "connect connecttimeout connection dial",
    },
    UpstreamConfig: {
        "health": "healthcheck healthchecks probe check",
        "url": "address addr server servers host hosts target endpoint endpoints uri",
        "connect_timeout": "connect dialtimeout dial",
        "max_connections": "connections poolsize pool maxconns maxconn",
        "idle_timeout": "keepalive keepalivetimeout idle",
    },
    RouteConfig: {
        "upstream": "service backend cluster target destination proxypass url forwardto to",
        "max_body": "clientmaxbodysize maxbodysize bodylimit",
        "write `match: {path: …}`": "path prefix location uri paths",
        "write `match: {host: …}`": "host hosts hostname domain domains",
        "write `match: {methods: …}`": "method methods",
    },
    Match: {
        "path": "paths uri url location exact",
        "write `path: /…/**`": "prefix pathprefix startswith",
        "path_regex": "regex pathregexp regexp saferegex",
        "host": "hosts hostname hostnames domain domains authority",
        "methods": "method verb verbs",
        "headers": "header",
    },
}

ELSEWHERE: Mapping[type[BaseModel], Mapping[str, str]] = {
    model: {word: meant for meant, words in by_key.items() for word in words.split()}
    for model, by_key in _WORDS.items()
}
"""By model and word, in lower case and without `-` and `_`: the key here, or what to write."""


def known_as(key: str, model: type[BaseModel]) -> str | None:
    """Return what to do about the unknown `key` of `model` where other programs have it, else None."""
    tables = (words for known, words in ELSEWHERE.items() if issubclass(model, known))
    meant = next(tables, {}).get(key.lower().replace("-", "").replace("_", ""))
    return f"did you mean `{meant}`?" if meant in model.model_fields else meant
