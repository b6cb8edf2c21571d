// What is not well, the gravest first, in sentences: what is so, what it does to requests, why, and what comes next.

const LEVELS = { good: 0, note: 1, warn: 2, bad: 3 };
const SHARE = 0.05; // of answers that are errors, from which on a route needs a look
const LATE = 100; // milliseconds by which the event loop may be late
const FEW = 10; // requests in the last minute below which a share says nothing
const MOST_SHOWN = 8;

// Whether so many of a route's answers are errors that it needs a look.
const erring = (route) => route.errors >= SHARE && Object.values(route.last_minute.fates).reduce((sum, each) => sum + each, 0) >= FEW;

// Whether nothing is answered because somebody wants it so, which is no outage.
const resting = (now) => now.ready && now.routes.length > 0 && now.routes.every((route) => route.maintenance);

function troubles(now, grown) {
  const found = [];
  const add = (level, key, title, more = {}) => found.push({ level, key, title, ...more });
  if (!now.ready) {
    const draining = now.reason === "draining";
    add("bad", "ready", draining ? "The sidecar is stopping" : "The sidecar is not ready", {
      effect: draining ? "Requests under way may finish; new ones are not taken." : "No traffic should be sent here.",
      why: draining ? "" : sentence(`the reason is: ${now.reason}`),
    });
  }
  for (const breaker of now.breakers) aboutBreaker(breaker, now, add);
  for (const upstream of now.upstreams) aboutUpstream(upstream, now, add);
  aboutMaintenance(now, add);
  if (!now.config.reload_ok) {
    add("warn", "reload", "The last configuration was refused", {
      effect: "The one before it goes on, unchanged.",
      lines: now.config.reload_lines.join("\n"),
      buttons: [["reload", "", "Reload configuration"]],
    });
  }
  const explained = new Set(now.breakers.filter((each) => inForce(each) && each.state !== "CLOSED").flatMap((each) => each.routes));
  for (const route of now.routes) {
    if (erring(route) && !explained.has(route.name) && !route.maintenance) {
      add(route.errors >= 0.5 ? "bad" : "warn", `errors ${route.name}`, `${percent(route.errors)} of the answers on ${route.name} are errors`, {
        effect: "Of the last minute, answers with a status of 500 and above.",
        why: mostly(route.last_minute),
      });
    }
  }
  for (const bulkhead of now.bulkheads) {
    const sent = grown.of(`bulkhead ${bulkhead.name}`);
    if (sent > 0 && bulkhead.mode !== "shadow") {
      add("warn", `bulkhead ${bulkhead.name}`, `Bulkhead ${bulkhead.name} sends requests away`, {
        effect: `${count(sent, "request")} in the last minute found no slot. Now ${whole.format(bulkhead.in_use)} of ${whole.format(bulkhead.limit)} slots are taken, and ${whole.format(bulkhead.queued)} wait.`,
      });
    }
  }
  for (const budget of now.budgets) {
    if (budget.balance < 1) {
      add("warn", `budget ${budget.upstream}`, `The retry budget of ${budget.upstream} is used up`, {
        effect: "Failures are passed on without another attempt, so that retries do not add to its load.",
      });
    }
  }
  if (now.process.loop_lag_ms !== null && now.process.loop_lag_ms > LATE) {
    add("warn", "lag", "The sidecar itself is slow", {
      effect: `Its event loop is ${ms(now.process.loop_lag_ms)} late, and so is every request. It may need more processor time.`,
    });
  }
  const lost = grown.of("log");
  if (lost > 0) add("warn", "log", "Log lines are being lost", { effect: `${count(lost, "line")} in the last minute could not be written: whoever reads the log is too slow.` });
  return found.sort((a, b) => LEVELS[b.level] - LEVELS[a.level]); // stable: else in the order of the file
}

function aboutBreaker(breaker, now, add) {
  const { name } = breaker;
  const level = gravity(breaker);
  if (level === "good") return;
  const key = `breaker ${name}`;
  const on = breaker.routes.length ? ` on ${names(breaker.routes)}` : "";
  const reset = ["reset", name, "Reset"];
  const hold = ["open", name, "Hold open"];
  const out = breaker.outage !== null && !breaker.forced;
  const why = out ? story(breaker, now.at) : "";
  const more = out ? `The last attempts: ${attempts(breaker.last_trip.attempts)}.` : "";
  if (breaker.forced === "closed") {
    add(level, key, `Breaker ${name} is held closed`, { effect: `Requests${on} go through, however much fails.`, next: doing(breaker), buttons: [reset] });
  } else if (!inForce(breaker)) {
    add(level, key, `Breaker ${name} would be open`, { effect: `It is in shadow: requests${on} go through all the same.`, why, buttons: [reset] });
  } else if (breaker.state === "OPEN") {
    add(level, key, `Breaker ${name} is ${breaker.forced ? "held " : ""}open`, {
      effect: `Requests${on} are refused at once, or get their fallback${breaker.rejected ? `: ${whole.format(breaker.rejected)} so far` : ""}.`,
      why,
      next: doing(breaker),
      more,
      buttons: breaker.forced ? [reset] : [reset, hold],
    });
  } else {
    add(level, key, `Breaker ${name} tries whether the service is well again`, {
      effect: `Single requests${on} go through as trials; the others are refused, or get their fallback.`,
      why,
      next: doing(breaker),
      more,
      buttons: [reset, hold],
    });
  }
}

function aboutUpstream(upstream, now, add) {
  const { name, health } = upstream;
  if (health !== null && health.healthy === false) {
    add("bad", `upstream ${name}`, `Upstream ${name} fails its health probes`, {
      effect: health.since === null ? "" : `Since ${since(health.since, now.at)}.`,
      why: health.why ? sentence(`the last probe said: ${health.why}`) : "",
    });
  }
}

function aboutMaintenance(now, add) {
  const under = now.routes.filter((route) => route.maintenance);
  if (!under.length) return;
  const all = under.length === now.routes.length;
  const first = under[0].maintenance;
  add("warn", "maintenance", all ? "All routes are under maintenance" : `${under.length === 1 ? "Route" : "Routes"} ${names(under.map((route) => route.name))} ${under.length === 1 ? "is" : "are"} under maintenance`, {
    effect: `Requests are answered with 503; callers are told to come back after ${lasting(first.retry_after)}.`,
    why: `Since ${since(Math.min(...under.map((route) => route.maintenance.since)), now.at)}.`,
    buttons: all || under.length > 3 ? [["resume-all", "", "End maintenance"]] : under.map((route) => ["resume", route.name, under.length === 1 ? "End maintenance" : `End it for ${route.name}`]),
  });
}

// What most of the errors were.
function mostly(minute) {
  const failed = Object.entries(minute.failed).sort((a, b) => b[1] - a[1]);
  return failed.length ? sentence(`most of them: ${known(WORDS.meanings, failed[0][0])}`) : "";
}

// One word for all.
function verdict(now, found) {
  if (resting(now)) return ["warn", "All routes are under maintenance"];
  const worst = found.reduce((level, each) => (LEVELS[each.level] > LEVELS[level] ? each.level : level), "good");
  if (now.status === "unhealthy") return ["bad", now.ready ? "Requests are not being answered" : "Not ready"];
  if (worst === "bad") return ["bad", "Something is wrong"];
  if (now.status === "degraded" || worst === "warn") return ["warn", "Something needs a look"];
  return worst === "note" ? ["note", "All is well, with a remark"] : ["good", "All is well"];
}

// Why, in a sentence: the sidecar's own, or where it sees nothing wrong that of the cards.
function reason(now, level, found) {
  if (level === "good") return "No breaker is open, and nothing needs a look.";
  if (resting(now)) return "Nothing is answered because somebody wants it so: callers are told when to come back.";
  if (now.status !== "healthy" || !found.length) return now.message;
  const [first, ...others] = found;
  return `${first.title}${others.length ? `, and ${count(others.length, "more thing")} ${others.length === 1 ? "needs" : "need"} a look` : ""}.`;
}

const troubleRows = new Rows(byId("trouble-list"), "trouble-row", (row, each) => {
  mark(row.node, "level", each.level);
  put(row.title, each.title);
  for (const part of ["effect", "why", "next", "more"]) put(row[part], each[part] ?? "");
  put(row.lines, each.lines ?? "");
  hide(row.lines, !each.lines);
  const wanted = JSON.stringify(each.buttons ?? []);
  if (row.wanted === wanted) return;
  row.wanted = wanted;
  row.buttons.replaceChildren(...(each.buttons ?? []).map(([action, name, text]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.dataset.action = action;
    button.dataset.name = name;
    if (name) button.setAttribute("aria-label", `${text}: ${name}`);
    return button;
  }));
});

function showTroubles(found) {
  hide(byId("troubles"), !found.length);
  troubleRows.show(found.slice(0, MOST_SHOWN), (each) => each.key);
  const more = found.length - MOST_SHOWN;
  hide(byId("trouble-more"), more <= 0);
  if (more > 0) put(byId("trouble-more"), `${count(more, "more thing")} ${more === 1 ? "is" : "are"} not well: the tables below have ${more === 1 ? "it" : "them"}, with “Only what is not well”.`);
}
