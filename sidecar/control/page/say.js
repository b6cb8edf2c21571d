// Numbers, times and codes as a person says them.

const WORDS = JSON.parse(byId("words").textContent);

const NOTHING = "–";
const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 2 });
const oneTenth = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayFormat = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

const count = (number, one, many = one + "s") => `${whole.format(number)} ${number === 1 ? one : many}`;

function aSecond(rate) {
  if (!rate) return "0";
  return (rate >= 9.95 ? whole : rate >= 0.095 ? oneTenth : hundredths).format(rate);
}

// A share from 0 to 1. What is not all is never shown as 100 %, and what is not nothing never as 0 %.
function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1\u00a0%";
  if (share < 1 && share > 0.999) return "> 99.9\u00a0%";
  return `${(share < 0.1 || share > 0.9 ? tenths : whole).format(share * 100)}\u00a0%`;
}

// The shares of parts in all of them, so rounded that together they are 100 % and no more: what is lost by rounding down
// goes to those that lost most by it. Gives a text for each part.
function shares(parts) {
  const all = parts.reduce((sum, each) => sum + each, 0);
  const exact = parts.map((each) => (100 * each) / all);
  const unit = exact.every((each) => each === 0 || (each >= 10 && each <= 90)) ? 1 : 10; // as `percent` does
  const down = exact.map((each) => Math.floor(each * unit + 1e-9));
  let left = 100 * unit - down.reduce((sum, each) => sum + each, 0);
  const order = [...parts.keys()].sort((a, b) => exact[b] * unit - down[b] - (exact[a] * unit - down[a]));
  for (const index of order) if (left-- > 0) down[index] += 1;
  return down.map((each, index) => {
    const some = parts[index] > 0 && parts[index] < all;
    if (some && each === 0) return percent(0.0005);
    return some && each === 100 * unit ? percent(0.9995) : `${tenths.format(each / unit)}\u00a0%`;
  });
}

function ms(value) {
  if (value === null) return NOTHING;
  if (value > 0 && value < 0.1) return "< 0.1\u00a0ms";
  if (value < 1000) return `${(value < 10 ? tenths : whole).format(value)}\u00a0ms`;
  return `${(value < 10000 ? hundredths : tenths).format(value / 1000)}\u00a0s`;
}

function lasting(seconds) {
  if (seconds < 120) return `${Math.max(0, Math.ceil(seconds - 0.05))}\u00a0s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)}\u00a0min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)}\u00a0h ${Math.floor((seconds % 3600) / 60)}\u00a0min`;
  return `${Math.floor(seconds / 86400)} days`;
}

// A time of day, with its day where that is not the day of `now`. Both are Unix time.
function clock(at, now) {
  const when = new Date(at * 1000);
  const time = clockFormat.format(when);
  return when.toDateString() === new Date(now * 1000).toDateString() ? time : `${dayFormat.format(when)}, ${time}`;
}

const since = (at, now) => `${clock(at, now)}, ${lasting(now - at)} ago`;

function bytes(number) {
  if (number < 1024) return count(number, "byte");
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = number / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${(value < 10 ? tenths : whole).format(value)}\u00a0${units[unit]}`;
}

// Names, and how many more there are when they are too many.
function names(all, most = 4) {
  if (all.length <= 1) return all.join("");
  if (all.length > most) return `${all.slice(0, most - 1).join(", ")} and ${all.length - most + 1} more`;
  return `${all.slice(0, -1).join(", ")} and ${all[all.length - 1]}`;
}

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}${/[.!?…]$/.test(text) ? "" : "."}` : "");

const known = (words, word) => (Object.hasOwn(words, word) ? words[word] : word);

// What came of an attempt: a status, or a word.
const result = (what) => (/^\d{3}$/.test(what) ? `status ${what}` : known(WORDS.results, what));

const STATES = { CLOSED: "CLOSED", OPEN: "OPEN", HALF_OPEN: "HALF_OPEN" };

const inForce = (breaker) => breaker.mode !== "shadow";

// How grave a breaker's state is.
function gravity(breaker) {
  if (breaker.state === "CLOSED") return breaker.forced ? "note" : "good";
  if (!inForce(breaker)) return "note";
  return breaker.state === "OPEN" ? "bad" : "warn";
}

function untilFree(breaker) {
  return breaker.forced_for === null ? "until somebody resets it" : `for another ${lasting(breaker.forced_for)}`;
}

// What a breaker does now, and what comes next.
function doing(breaker) {
  if (breaker.forced === "open") return `Held open by an operator, ${untilFree(breaker)}.`;
  if (breaker.forced === "closed") return `Held closed by an operator, ${untilFree(breaker)}.`;
  const shadow = inForce(breaker) ? "" : " It is in shadow: nothing is refused.";
  if (breaker.state === "OPEN") return `Next trial in ${lasting(breaker.retry_after ?? 0)}.${shadow}`;
  if (breaker.state === "HALF_OPEN") {
    const trials = breaker.trials ? `${count(breaker.trials, "trial")} under way` : "waiting for a request to try";
    return `Good trials will close it, a bad one opens it again: ${trials}.${shadow}`;
  }
  return "";
}

// Why a breaker tripped; the first sentence says it, the last is the first thing that went wrong. For a trip or an outage.
function tripped(trip) {
  const why = trip.threshold ? sentence(`it had seen ${trip.threshold}`) : sentence(known(WORDS.causes, trip.cause));
  const counted = trip.total > trip.failures ? ` ${whole.format(trip.failures)} of ${count(trip.total, "request")} had failed.` : "";
  const first = trip.first_error ? ` The first failure was: ${result(trip.first_error)}.` : "";
  return `${why}${counted}${first}`;
}

// How an outage began, and what became of the trials since.
function story(breaker, now) {
  const { outage, last_trip: last } = breaker;
  const began = `It opened at ${since(outage.since, now)}. ${tripped(outage)}`;
  if (!outage.trials_failed) return began;
  const error = last.first_error ? `: ${result(last.first_error)}` : "";
  return `${began} Since then ${count(outage.trials_failed, "trial")} failed, the last at ${since(last.at, now)}${error}.`;
}

function attempt(each) {
  const took = each.ms === null ? "its body broke" : `after ${ms(each.ms)}`;
  return `${result(each.what)}, ${took}${each.age > 0.0005 ? `, ${ms(each.age * 1000)} before it opened` : ""}`;
}

// The last attempts in few words: what is the same one after the other is counted.
function attempts(all) {
  const runs = [];
  for (const { what } of all) {
    const last = runs[runs.length - 1];
    if (last?.what === what) last.times += 1;
    else runs.push({ what, times: 1 });
  }
  return runs.map(({ what, times }) => (times > 1 ? `${times} × ${result(what)}` : result(what))).join(", then ");
}
