// The tables: one row for each thing, in the order of the configuration; but routes that are not well stand on top.

// Counters that the sidecar tells from its start alone, over the last minute: what this page has seen, in steps of five seconds.
class Watched {
  constructor() {
    this.notes = [];
  }

  take(now) {
    const numbers = new Map([["log", now.process.log_dropped]]);
    for (const each of now.bulkheads) numbers.set(`bulkhead ${each.name}`, each.rejected_full + each.rejected_timeout);
    const last = this.notes[this.notes.length - 1];
    if (last !== undefined && (now.at < last.at || now.uptime < now.at - last.at)) this.notes = []; // it was started anew
    this.now = { at: now.at, numbers };
    if (last === undefined || !this.notes.length || now.at - last.at >= 5) this.notes.push(this.now);
    while (this.notes.length > 1 && now.at - this.notes[0].at > 62) this.notes.shift();
    if (now.at - this.notes[0].at > 62) this.notes = [this.now];
  }

  // By how much a counter has grown. One that was not there yet was at zero; one that is smaller began anew.
  of(key) {
    const present = this.now.numbers.get(key) ?? 0;
    const before = this.notes[0].numbers.get(key) ?? 0;
    return present >= before ? present - before : present;
  }

}

const watched = new Watched();
const GROUPS = [["good", "answered"], ["rescued", "rescued"], ["refused", "refused"], ["failed", "failed"], ["client", "the client’s doing"]];

// How many requests of the last minute came to what, as their callers saw it: an error that stands in for another one has
// rescued nobody.
function byGroup({ fates, failed }) {
  const sums = new Map();
  const add = (group, number) => number && sums.set(group, (sums.get(group) ?? 0) + number);
  for (const [fate, number] of Object.entries(fates)) {
    const group = known(WORDS.groups, fate);
    const errors = group === "good" || group === "rescued" ? failed[fate] ?? 0 : 0;
    add(group, number - errors);
    add("failed", errors);
  }
  return sums;
}

function showOutcome(row, minute) {
  const sums = byGroup(minute);
  let all = 0;
  for (const number of sums.values()) all += number;
  for (const [index, [group]] of GROUPS.entries()) {
    const part = row.bar.children[index];
    const share = all ? Math.round(((sums.get(group) ?? 0) / all) * 1000) : 0;
    if (row[group] === share) continue;
    row[group] = share;
    part.style.flexGrow = share;
  }
  if (!all) put(row.outcome, "No requests");
  else if (sums.get("good") === all) put(row.outcome, "All answered");
  else {
    const there = GROUPS.filter(([group]) => sums.get(group));
    const parts = shares(there.map(([group]) => sums.get(group)));
    put(row.outcome, sentence(there.map(([, text], index) => `${parts[index]} ${text}`).join(", ")));
  }
}

// How well a route is.
function levelOf(route) {
  const breaker = breakersByName.get(route.breaker);
  const failing = upstreamsByName.get(route.upstream)?.health?.healthy === false;
  const wrong = erring(route);
  const guarded = breaker === undefined ? "good" : gravity(breaker);
  if (guarded === "bad" || failing || (wrong && route.errors >= 0.5)) return "bad";
  return guarded === "warn" || route.maintenance || wrong ? "warn" : guarded;
}

const worstFirst = (routes) => [...routes].sort((a, b) => LEVELS[levelOf(b)] - LEVELS[levelOf(a)]); // stable

// What the filter looks for, and whether a row is one of those that are not well.
function found(row, level, ...texts) {
  mark(row.node, "level", level);
  row.level = level;
  row.text = texts.join(" ").toLowerCase();
}

function badge(row, level, text) {
  mark(row.badge, "state", level);
  put(row.badge, text);
}

function named(button, action, name, text) {
  if (button.dataset.name === name && button.dataset.action === action) return;
  button.dataset.action = action;
  button.dataset.name = name;
  put(button, text);
  button.setAttribute("aria-label", `${text}: ${name}`);
}

function stateOf(breaker) {
  const forced = breaker.forced ? ", held" : "";
  return `${known(STATES, breaker.state)}${forced}${inForce(breaker) ? "" : " (shadow)"}`;
}

let breakersByName = new Map();
let upstreamsByName = new Map();

// How many of what seems good or rescued were errors to their callers.
function asErrors(route, fate) {
  const group = known(WORDS.groups, fate);
  const errors = group === "good" || group === "rescued" ? route.failed[fate] ?? 0 : 0;
  return errors ? `; ${whole.format(errors)} of them with a status of 500 and above` : "";
}

const body = (id) => document.querySelector(`#${id} tbody`);

const TABLES = {
  routes: new Rows(document.querySelector("#routes table"), "route-row", (row, route) => {
    const breaker = breakersByName.get(route.breaker);
    found(row, levelOf(route), route.name, route.match, route.upstream ?? "", route.breaker ?? "", route.bulkhead ?? "");
    put(row.name, route.name);
    put(row.match, `${route.match} → ${route.upstream}`);
    put(row.rate, aSecond(route.rate));
    showOutcome(row, route.last_minute);
    put(row.p50, ms(route.p50_ms));
    put(row.p99, ms(route.p99_ms));
    if (route.maintenance) badge(row, "warn", "MAINTENANCE");
    else if (breaker === undefined) badge(row, "", "");
    else badge(row, gravity(breaker), stateOf(breaker));
    put(row.breaker, breaker === undefined ? (route.maintenance ? "" : "None") : route.breaker === route.name ? "Its own" : route.breaker);
    if (route.maintenance) named(row.maintain, "resume", route.name, "End maintenance");
    else named(row.maintain, "maintain", route.name, "Maintenance");
    if (row.inside.hidden) return; // what nobody looks at needs no work
    put(row.goes, `Requests that match ${route.match} go to ${route.upstream}${route.bulkhead ? `, through bulkhead ${route.bulkhead}` : ""}.`);
    putList(row.stages, route.stages);
    const fates = Object.entries(route.fates).sort((a, b) => b[1] - a[1]);
    putList(row.fates, fates.length ? fates.map(([fate, number]) => `${whole.format(number)} × ${fate}: ${known(WORDS.meanings, fate)}${asErrors(route, fate)}`) : ["No requests yet"]);
  }),

  breakers: new Rows(document.querySelector("#breakers table"), "breaker-row", (row, breaker) => {
    const trip = breaker.last_trip;
    const total = breaker.failures + breaker.successes;
    found(row, gravity(breaker), breaker.name, ...breaker.routes);
    put(row.name, breaker.name);
    put(row.routes, breaker.routes.length ? `On ${names(breaker.routes)}` : "On no route");
    badge(row, gravity(breaker), stateOf(breaker));
    put(row.says, doing(breaker));
    put(row.failures, total ? `${whole.format(breaker.failures)} of ${count(total, "request")}, ${percent(breaker.failureRate / 100)}` : "No requests counted");
    put(row.rejected, whole.format(breaker.rejected));
    put(row.trips, whole.format(breaker.trips));
    named(row.reset, "reset", breaker.name, "Reset");
    named(row.open, "open", breaker.name, "Hold open");
    named(row.close, "close", breaker.name, "Hold closed");
    if (row.inside.hidden) return;
    const last = trip === null ? "It has never opened by itself." : `It opened at ${clock(trip.at, shown.at)} for ${lasting(trip.open_for)}. ${tripped(trip)}`;
    put(row.trip, breaker.outage === null || breaker.forced ? last : story(breaker, shown.at));
    put(row.before, trip === null ? "" : "The attempts before it, the oldest first:");
    putList(row.attempts, trip === null ? [] : trip.attempts.map(attempt));
    put(row.past, `Open for ${lasting(breaker.open_seconds)} in all; ${count(breaker.late, "result")} came too late to count.`);
  }),

  upstreams: new Rows(body("upstreams"), "upstream-row", (row, upstream) => {
    const { health, availability } = upstream;
    const level = health?.healthy === false ? "bad" : availability !== null && availability < 1 - SHARE ? "warn" : "good";
    found(row, level, upstream.name, upstream.url);
    put(row.name, upstream.name);
    put(row.url, upstream.url);
    if (health === null) badge(row, "", "NOT PROBED");
    else if (health.healthy === null) badge(row, "", "NOT KNOWN YET");
    else badge(row, health.healthy ? "good" : "bad", health.healthy ? "HEALTHY" : "FAILING");
    if (health === null || health.checked_at === null) put(row.says, "");
    else if (health.healthy) put(row.says, `Answers in ${ms(health.latency_ms)}`);
    else put(row.says, `${sentence(health.why ?? "")} Since ${since(health.since, shown.at)}.`);
    put(row.availability, availability === null ? NOTHING : percent(availability));
    mark(row.availability, "high", availability !== null && availability < 1 - SHARE ? "" : null);
    put(row.p50, ms(upstream.p50_ms));
    put(row.p99, ms(upstream.p99_ms));
    put(row.connections, `${whole.format(upstream.open)} of ${whole.format(upstream.max_connections)}`);
  }),

  bulkheads: new Rows(body("bulkheads"), "bulkhead-row", (row, bulkhead) => {
    const full = bulkhead.in_use >= bulkhead.limit;
    const away = bulkhead.rejected_full + bulkhead.rejected_timeout;
    found(row, watched.of(`bulkhead ${bulkhead.name}`) && bulkhead.mode !== "shadow" ? "warn" : "good", bulkhead.name, ...bulkhead.routes);
    put(row.name, bulkhead.name);
    put(row.routes, `${bulkhead.routes.length ? `On ${names(bulkhead.routes)}` : "On no route"}${bulkhead.mode === "shadow" ? ", in shadow" : ""}`);
    fill(row.slots, bulkhead.in_use / bulkhead.limit);
    put(row.used, `${whole.format(bulkhead.in_use)} of ${whole.format(bulkhead.limit)}${full ? ", full" : ""}`);
    put(row.queued, bulkhead.max_queue ? `${whole.format(bulkhead.queued)} of ${whole.format(bulkhead.max_queue)}` : "Nobody may wait");
    put(row.rejected, whole.format(away));
  }),

  limits: new Rows(body("limits"), "limit-row", (row, limit) => {
    found(row, "good", limit.route, limit.key);
    put(row.name, limit.route);
    put(row.limit, `${whole.format(limit.limit)} in ${lasting(limit.per)}, by ${limit.key}${limit.mode === "shadow" ? ", in shadow" : ""}`);
    put(row.allowed, whole.format(limit.allowed));
    put(row.rejected, limit.mode === "shadow" ? `${whole.format(limit.would_reject)} would be` : whole.format(limit.rejected));
    put(row.keys, whole.format(limit.keys));
  }),

  budgets: new Rows(body("budgets"), "budget-row", (row, budget) => {
    found(row, budget.balance < 1 ? "warn" : "good", budget.upstream);
    put(row.name, budget.upstream);
    put(row.balance, budget.balance < 1 ? "None" : whole.format(Math.floor(budget.balance)));
    put(row.rule, `${percent(budget.ratio)} of the requests and ${tenths.format(budget.min_per_second)} a second, over ${lasting(budget.window)}`);
  }),

  cache: new Rows(body("cache"), "cache-row", (row, route) => {
    const results = route.results;
    const from = (results.hit ?? 0) + (results.stale ?? 0) + (results.coalesced ?? 0) + (results.revalidated ?? 0);
    const all = from + (results.miss ?? 0);
    found(row, "good", route.route);
    put(row.name, route.route);
    put(row.hits, `${all ? `${percent(from / all)} of ${count(all, "request")}` : "No requests yet"}${results.bypass ? `, ${whole.format(results.bypass)} not for a cache` : ""}${results.error ? `, ${count(results.error, "error")}` : ""}`);
    named(row.clear, "clear", route.route, "Clear");
  }),
};

// --- lists ---

// What an error says besides its kind, which the reason has told already.
const detail = (error) => (error?.includes(": ") ? error.slice(error.indexOf(": ") + 2) : null);

// Requests that ended in the same way are one line: in an outage the last twenty are all alike.
function alike(records) {
  const groups = new Map();
  for (const record of records) {
    const like = [record.route, record.fate, record.why_not_retried, record.status].join(" ");
    const group = groups.get(like);
    if (group === undefined) groups.set(like, { like, record, times: 1 });
    else group.times += 1;
  }
  return [...groups.values()];
}

const requestRows = new Rows(document.querySelector("#requests ol"), "request-row", (row, { record, times }) => {
  put(row.time, clock(record.at, shown.at));
  put(row.line, `${record.method} ${record.path}`);
  put(row.others, times > 1 ? `and ${times - 1} before it like this` : "");
  const why = record.why_not_retried ? ` Not tried again: ${known(WORDS.why, record.why_not_retried)}.` : "";
  const fault = record.fault ? ` On purpose: ${record.fault}.` : "";
  put(row.reason, `${sentence(known(WORDS.meanings, record.fate))}${why}${fault}`);
  put(row.more, [
    record.status ? `Status ${record.status}` : "No answer",
    record.route === "_none" ? null : `route ${record.route}`,
    ms(record.total_ms),
    record.attempts.length ? `${record.attempts.length === 1 ? "attempt" : "attempts"}: ${record.attempts.map((each) => `${result(each.result)} (${ms(each.ms)})`).join(", ")}` : null,
    detail(record.error),
    record.request_id,
  ].filter(Boolean).join(" · "));
});

const changeRows = new Rows(document.querySelector("#changes ol"), "change-row", (row, change) => {
  put(row.time, clock(change.at, shown.at));
  put(row.text, change.text);
});
