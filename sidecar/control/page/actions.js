// What an operator may do. Everything is asked about first; what came of it is said, and what was refused says why.

const KEPT = "sidecar-token"; // in sessionStorage: this tab alone, until it is closed

const TIMES = [["", "until somebody resets it"], ["1m", "1 minute"], ["5m", "5 minutes"], ["15m", "15 minutes"], ["1h", "1 hour"]];
const WAITS = [["30s", "30 seconds"], ["1m", "1 minute"], ["5m", "5 minutes"], ["30m", "30 minutes"], ["1h", "1 hour"]];

const ACTIONS = {
  "reset": {
    title: (name) => `Reset breaker ${name}?`,
    text: "It closes at once, with new counts, and requests go through again. If the service still fails, it will open again.",
    yes: "Reset",
    send: (name) => ["POST", `breakers/${encodeURIComponent(name)}/reset`],
    done: (name) => `Breaker ${name} was reset.`,
  },
  "open": {
    title: (name) => `Hold breaker ${name} open?`,
    text: "Every request through it will be refused at once, or get its fallback, whether the service is well or not.",
    yes: "Hold open",
    danger: true,
    field: ["For how long", TIMES, "5m"],
    send: (name, time) => ["POST", `breakers/${encodeURIComponent(name)}/open${time && `?ttl=${time}`}`],
    done: (name) => `Breaker ${name} is held open.`,
  },
  "close": {
    title: (name) => `Hold breaker ${name} closed?`,
    text: "Every request will go through to the service, and nothing opens the breaker, however much fails.",
    yes: "Hold closed",
    danger: true,
    field: ["For how long", TIMES, "5m"],
    send: (name, time) => ["POST", `breakers/${encodeURIComponent(name)}/close${time && `?ttl=${time}`}`],
    done: (name) => `Breaker ${name} is held closed.`,
  },
  "reset-all": {
    title: () => "Reset all breakers?",
    text: "All of them close at once, with new counts, those too that an operator holds open or closed.",
    yes: "Reset all",
    send: () => ["POST", "breakers/reset"],
    done: () => "All breakers were reset.",
  },
  "maintain": {
    title: (name) => `Put route ${name} under maintenance?`,
    text: "Its requests will be answered with 503 and a Retry-After, and not reach the service, until you end it.",
    yes: "Begin maintenance",
    danger: true,
    field: ["Tell callers to come back after", WAITS, "1m"],
    send: (name, wait) => ["PUT", "maintenance", { route: name, retry_after: wait }],
    done: (name) => `Route ${name} is under maintenance.`,
  },
  "maintain-all": {
    title: () => "Put all routes under maintenance?",
    text: "Every request will be answered with 503 and a Retry-After, and not reach any service, until you end it.",
    yes: "Begin maintenance for all",
    danger: true,
    field: ["Tell callers to come back after", WAITS, "1m"],
    send: (_, wait) => ["PUT", "maintenance", { retry_after: wait }],
    done: () => "All routes are under maintenance.",
  },
  "resume": {
    title: (name) => `End the maintenance of route ${name}?`,
    text: "Its requests go through to the service again.",
    yes: "End maintenance",
    send: (name) => ["DELETE", "maintenance", { route: name }],
    done: (name) => `The maintenance of route ${name} has ended.`,
  },
  "resume-all": {
    title: () => "End the maintenance of all routes?",
    text: "Requests go through to the services again.",
    yes: "End maintenance",
    send: () => ["DELETE", "maintenance"],
    done: () => "The maintenance has ended.",
  },
  "clear": {
    title: (name) => `Forget the stored answers of route ${name}?`,
    text: "Its next requests all go to the service. Copies that a fallback would have served are gone too.",
    yes: "Clear",
    danger: true,
    send: (name) => ["DELETE", `cache?route=${encodeURIComponent(name)}`],
    done: (name, answer) => `${count(answer.dropped ?? 0, "stored answer")} of route ${name} forgotten.`,
  },
  "clear-all": {
    title: () => "Forget all stored answers?",
    text: "The next requests all go to the services. Copies that a fallback would have served are gone too.",
    yes: "Clear the cache",
    danger: true,
    send: () => ["DELETE", "cache"],
    done: (_, answer) => `${count(answer.dropped ?? 0, "stored answer")} forgotten.`,
  },
  "reload": {
    title: () => "Reload the configuration?",
    text: "The file is read again and checked as a whole. If anything is wrong with it, nothing changes, and you are told what.",
    yes: "Reload",
    send: () => ["POST", "config/reload"],
    done: (_, answer) => (answer.changed === false ? "The configuration is the one that was in force already." : "The new configuration is in force."),
  },
};

class Refused extends Error {}

// The headers of every request: the content type that a form of another site cannot have, and the token if there is one.
function headers(more = {}) {
  const token = sessionStorage.getItem(KEPT);
  return { ...(token === null ? {} : { Authorization: `Bearer ${token}` }), ...more };
}

// Send a change; give the answer's JSON, or throw with a sentence that says why not.
async function send(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: headers({ "Content-Type": "application/json" }),
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
  } catch {
    throw new Refused("The sidecar cannot be reached. Nothing was changed, as far as this page knows.");
  }
  const said = await answer.json().catch(() => null);
  if (answer.ok) return said ?? {};
  if (answer.status === 401) throw new Refused("The token is not accepted any more. Load this page again to give another one.");
  const lines = Array.isArray(said?.lines) ? said.lines.map(String) : [];
  const what = lines.length ? ["Refused, nothing was changed:", ...lines].join("\n") : said?.detail ?? said?.title;
  throw new Refused(String(what ?? `The sidecar answered with status ${answer.status}.`));
}

let asking = null; // what the dialog is about

function ask(action, name) {
  const what = ACTIONS[action];
  if (what === undefined || byId("ask").open) return;
  asking = { what, name };
  put(byId("ask-title"), what.title(name));
  put(byId("ask-text"), what.text);
  put(byId("ask-yes"), what.yes);
  mark(byId("ask-yes"), "danger", what.danger ? "" : null);
  hide(byId("ask-failed"), true);
  hide(byId("ask-field"), what.field === undefined);
  if (what.field !== undefined) {
    const [label, options, usual] = what.field;
    put(byId("ask-label"), label);
    byId("ask-time").replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === usual)));
  }
  byId("ask-yes").disabled = false;
  byId("ask").showModal(); // the browser holds the focus in it, closes it on Escape, and gives the focus back
  // A change that refuses requests or loses something begins with the cautious choice.
  (what.field !== undefined ? byId("ask-time") : what.danger ? byId("ask-no") : byId("ask-yes")).focus();
}

async function confirmed() {
  const { what, name } = asking;
  const time = what.field === undefined ? undefined : byId("ask-time").value;
  byId("ask-yes").disabled = true;
  hide(byId("ask-failed"), true);
  try {
    const answer = await send(...what.send(name, time));
    byId("ask").close();
    say(what.done(name, answer));
  } catch (error) {
    byId("ask-yes").disabled = false;
    if (!(error instanceof Refused)) throw error;
    put(byId("ask-failed"), error.message);
    hide(byId("ask-failed"), false);
  }
}

let said = 0;

// Say what came of an action, for eyes and for ears.
function say(text) {
  put(byId("done").firstElementChild, text);
  hide(byId("done"), false);
  put(byId("news"), text);
  clearTimeout(said);
  said = setTimeout(() => hide(byId("done"), true), 6000);
}

// Ask for the token; resolves when one has been given.
function askToken(wrong) {
  const dialog = byId("token");
  put(byId("token-failed"), "That is not its token.");
  hide(byId("token-failed"), !wrong);
  byId("token-value").value = "";
  if (!dialog.open) dialog.showModal();
  byId("token-value").focus();
  return new Promise((given) => {
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      const token = byId("token-value").value.trim();
      if (!/^[\x21-\x7e]+$/.test(token)) return; // no header field could carry it
      sessionStorage.setItem(KEPT, token);
      byId("token-value").value = "";
      dialog.close();
      given();
    };
  });
}

function listenToButtons() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-action]");
    if (button !== null && !button.disabled) ask(button.dataset.action, button.dataset.name ?? "");
  });
  byId("ask-no").addEventListener("click", () => byId("ask").close());
  byId("ask").querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    confirmed();
  });
  // The browser gives the focus back to the button that was pressed, if that is still there.
  byId("ask").addEventListener("close", () => {
    if (document.activeElement === document.body) byId("verdict").focus({ preventScroll: true });
  });
  byId("token").addEventListener("cancel", (event) => event.preventDefault()); // there is nothing to see without it
}
