// The page: takes the news, shows it, and never shows old news as new.

const MOST_CHANGES = 30;

let shown = { at: Date.now() / 1000 }; // the last snapshot
let changes = [];
let lost = null; // since when nothing comes

// --- news ---

function takeSnapshot(now) {
  const before = shown.breakers === undefined ? null : shown;
  shown = now;
  lost = null;
  breakersByName = new Map(now.breakers.map((each) => [each.name, each]));
  upstreamsByName = new Map(now.upstreams.map((each) => [each.name, each]));
  watched.take(now);
  mark(document.body, "empty", null);
  draw();
  setLink("live", "Live");
  announce(before, now);
}

function draw() {
  const now = shown;
  const wrong = troubles(now, watched);
  const [level, title] = verdict(now, wrong);
  showWhich(now);
  mark(document.querySelector(".verdict"), "level", level);
  put(byId("verdict"), title);
  put(byId("message"), reason(now, level, wrong));
  showTroubles(wrong);
  showFigures(now);
  TABLES.routes.show(worstFirst(now.routes), (each) => each.name);
  TABLES.breakers.show(now.breakers, (each) => each.name);
  TABLES.upstreams.show(now.upstreams, (each) => each.name);
  TABLES.bulkheads.show(now.bulkheads, (each) => each.name);
  TABLES.limits.show(now.rate_limits, (each) => each.route);
  TABLES.budgets.show(now.budgets, (each) => each.upstream);
  TABLES.cache.show(now.cache === null ? [] : now.cache.routes, (each) => each.route);
  showCache(now.cache);
  requestRows.show(alike(now.refused), (each) => each.like);
  showProcess(now);
  filter();
  put(document.querySelector("title"), `${level === "good" || level === "note" ? "" : `(${wrong.length || 1}) `}${title} – ${which(now)}`);
  const all = document.querySelector(".tools").querySelector('[data-action="maintain-all"], [data-action="resume-all"]');
  const under = now.routes.length > 0 && now.routes.every((each) => each.maintenance);
  all.dataset.action = under ? "resume-all" : "maintain-all";
  put(all, under ? "End maintenance for all" : "Maintenance for all");
}

// Which sidecar this is: with several of them open in tabs nobody should press a button for the wrong one.
const which = (now) => (now.name === undefined ? "sidecar" : `${now.name} on ${now.host}`);

function showWhich(now) {
  put(byId("which"), now.name);
  put(byId("where"), `on ${now.host}, ${now.listen}, profile ${now.profile}, version ${now.version}`);
}

function showFigures(now) {
  let rate = 0;
  let slowest = null;
  const sums = new Map();
  let all = 0;
  for (const route of now.routes) {
    rate += route.rate;
    if (route.p99_ms !== null && (slowest === null || route.p99_ms > slowest.p99_ms)) slowest = route;
    for (const [group, number] of byGroup(route.last_minute)) {
      sums.set(group, (sums.get(group) ?? 0) + number);
      all += number;
    }
  }
  const bad = (sums.get("failed") ?? 0) + (sums.get("refused") ?? 0);
  put(byId("figure-rate"), aSecond(rate));
  put(byId("figure-bad"), all ? percent(bad / all) : NOTHING);
  put(byId("figure-slow"), slowest === null ? NOTHING : ms(slowest.p99_ms));
  const open = now.breakers.filter((each) => each.state === "OPEN" && inForce(each)).length;
  put(byId("figure-open"), now.breakers.length ? `${open} of ${now.breakers.length}` : "None there");
}

function showCache(cache) {
  hide(byId("cache"), cache === null);
  if (cache === null) return;
  fill(byId("cache-part"), cache.max_bytes ? cache.bytes / cache.max_bytes : 0);
  put(byId("cache-text"), `${count(cache.entries, "answer")} in ${bytes(cache.bytes)} of ${bytes(cache.max_bytes)}${cache.evicted ? `; ${whole.format(cache.evicted)} made room for others` : ""}`);
}

function showProcess(now) {
  const { process, config } = now;
  put(byId("fact-version"), now.version);
  put(byId("fact-uptime"), lasting(now.uptime));
  put(byId("fact-cpu"), process.cpu === null ? NOTHING : `${tenths.format(process.cpu)} % of a core`);
  put(byId("fact-memory"), process.memory === null ? NOTHING : bytes(process.memory));
  put(byId("fact-lag"), ms(process.loop_lag_ms));
  put(byId("fact-connections"), whole.format(process.connections));
  put(byId("fact-dropped"), whole.format(process.log_dropped));
  put(byId("fact-profile"), now.profile);
  put(byId("fact-config"), `${config.source}, loaded at ${clock(config.loaded_at, now.at)}, ${config.hash.slice(0, 12)}`);
}

// Show what has been opened, if what is shown is still true; else it is shown with the next news.
function redraw() {
  if (document.body.dataset.link === "live") draw();
}

// --- what is shown of it ---

function filter() {
  const focused = document.activeElement;
  const text = byId("filter").value.trim().toLowerCase();
  const only = byId("only").checked;
  for (const [id, rows] of Object.entries(TABLES)) {
    let all = 0;
    let left = 0;
    for (const row of rows.byKey.values()) {
      const fits = row.text.includes(text) && (!only || LEVELS[row.level] > 0);
      hide(row.node, !fits);
      all += 1;
      left += fits ? 1 : 0;
    }
    const section = byId(id);
    if (id !== "cache") {
      hide(section, all === 0);
      put(section.querySelector("[data-count]"), all === left ? `${all}` : `${left} of ${all}`);
    }
    hide(section.querySelector("table"), left === 0);
    hide(section.querySelector(".none"), left !== 0 || all === 0);
  }
  for (const link of document.querySelectorAll("nav a")) hide(link, byId(link.hash.slice(1)).hidden);
  keepFocus(focused);
}

// --- changes ---

const SAID = {
  breaker: (each) => `Breaker ${each.name}: ${known(STATES, each.from)} → ${known(STATES, each.to)}, because ${known(WORDS.causes, each.cause)}.`,
  upstream: (each) => (each.healthy ? `Upstream ${each.name} passes its probes.` : `Upstream ${each.name} fails its probes: ${each.why}.`),
  maintenance: (each) => `Maintenance of ${names(each.routes)} has ${each.on ? "begun" : "ended"}.`,
  reload: (each) => (each.ok ? (each.changed ? `A new configuration is in force, asked for by ${each.by}: ${names(each.changes)}.` : "The configuration was read again; nothing is different.") : `A configuration was refused: ${each.lines[0] ?? ""}`),
  log_level: (each) => `The log's level is ${each.level}.`,
  cache: (each) => `${count(each.dropped, "stored answer")} ${each.route === null ? "" : `of route ${each.route} `}forgotten.`,
  sidecar: (each) => (each.state === "ready" ? "The sidecar is ready." : "The sidecar is stopping."),
  admin: (each) => `${each.who} asked for ${each.action}${each.target ? ` of ${each.target}` : ""}: ${each.outcome}.`,
  missed: (each) => `${count(each.count, "change")} came too fast to be shown.`,
};

let key = 0;

function takeEvent(kind, data) {
  if (!Object.hasOwn(SAID, kind)) return;
  key += 1;
  changes = [{ key, at: data.at ?? shown.at, text: SAID[kind](data) }, ...changes].slice(0, MOST_CHANGES);
  changeRows.show(changes, (each) => each.key);
}

// Tell those who listen what has become different; nobody wants to hear numbers every second.
function announce(before, now) {
  const news = [];
  if (before === null) {
    news.push(`${byId("verdict").textContent}.`);
  } else {
    const old = new Map(before.breakers.map((each) => [each.name, each]));
    for (const each of now.breakers) {
      const was = old.get(each.name);
      if (was !== undefined && (was.state !== each.state || was.forced !== each.forced)) news.push(`Breaker ${each.name} is ${each.forced ? "held " : ""}${known(STATES, each.state).toLowerCase()}.`);
    }
    const healthy = new Map(before.upstreams.map((each) => [each.name, each.health?.healthy]));
    for (const each of now.upstreams) {
      const was = healthy.get(each.name);
      if (each.health && typeof was === "boolean" && was !== each.health.healthy) news.push(`Upstream ${each.name} ${each.health.healthy ? "passes its probes again" : "fails its probes"}.`);
    }
    if (before.ready !== now.ready) news.push(now.ready ? "The sidecar is ready." : "The sidecar is not ready.");
    if (before.config.reload_ok && !now.config.reload_ok) news.push("A configuration was refused.");
    if (before.config.hash !== now.config.hash) news.push("A new configuration is in force.");
  }
  if (news.length) put(byId("news"), news.length > 4 ? `${news.slice(0, 3).join(" ")} And ${news.length - 3} more changes.` : news.join(" "));
}

// --- the link ---

function setLink(state, text) {
  if (document.body.dataset.link !== state && state === "lost") put(byId("news"), text);
  mark(document.body, "link", state);
  const old = state !== "live" && shown.breakers !== undefined;
  mark(document.body, "old", old ? "" : null);
  if (old) {
    mark(document.querySelector(".verdict"), "level", "none");
    put(byId("verdict"), "How it is now is not known");
    put(byId("message"), `Below is how it was at ${clock(shown.at, Date.now() / 1000)}.`);
    put(document.querySelector("title"), `? Connection lost – ${which(shown)}`);
  }
  put(byId("link"), text);
  hide(byId("retry"), state !== "lost");
  hide(byId("stale"), state === "live" || state === "opening");
  const focused = document.activeElement;
  for (const button of document.querySelectorAll("button[data-action]")) {
    if (button.disabled !== (state !== "live")) button.disabled = state !== "live";
  }
  keepFocus(focused);
}

function takeState(state, details) {
  if (state === "paused") {
    put(byId("stale"), "Paused while nobody looks. What stands here is old.");
    setLink("paused", "Paused");
  } else if (state === "lost") {
    lost ??= shown.breakers === undefined ? Date.now() / 1000 : shown.at;
    const next = details.next ? `Trying again in ${details.next} s.` : "Trying again now.";
    const when = clock(lost, Date.now() / 1000);
    put(byId("stale"), shown.breakers === undefined
      ? `No connection. ${details.why} ${next}`
      : `Connection lost since ${when}. ${details.why} What stands here is how it was then, not how it is now.`);
    setLink("lost", `Connection lost since ${when}. ${next}`);
  } else if (document.body.dataset.link !== "lost") {
    setLink("opening", "Connecting …");
  }
}

const stream = new Stream({
  snapshot: (now) => {
    try {
      takeSnapshot(now);
    } catch (error) {
      put(byId("stale"), `This page could not show what came (${error.message}). It may be older or newer than the sidecar: load it again.`);
      hide(byId("stale"), false);
      throw error;
    }
  },
  event: takeEvent,
  state: takeState,
  token: askToken,
});

document.addEventListener("visibilitychange", () => (document.hidden ? stream.stop() : stream.start()));
window.addEventListener("online", () => stream.again());
byId("retry").addEventListener("click", () => stream.again());
byId("filter").addEventListener("input", filter);
byId("only").addEventListener("change", filter);
listenToButtons();
if (!document.hidden) stream.start();
