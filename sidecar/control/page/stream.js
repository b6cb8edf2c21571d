// News from the sidecar: `GET events`, read by fetch, since an EventSource cannot send a token.
//
// The states are: opening; live; lost, with the time since when and when it is tried again; paused, while nobody looks.
// A stream that says nothing for SILENCE is taken for lost, since a snapshot should come every second.

const SILENCE = 6000; // milliseconds
const PAUSES = [1000, 2000, 4000, 8000, 15000, 30000]; // before the next try, with a little chance in them
const LONGEST = 16 << 20; // characters of one event

class Unauthorized extends Error {}

class Stream {
  // `told` has: snapshot(data), event(kind, data), state(name, details), token(wrong) that resolves with a token kept.
  constructor(told) {
    this.told = told;
    this.last = "0"; // the number of the last event: at first, all that is kept is wanted
    this.control = null;
    this.wake = () => {};
  }

  start() {
    if (this.control !== null) return;
    this.control = new AbortController();
    this.run(this.control);
  }

  stop() {
    if (this.control === null) return;
    this.control.abort();
    this.control = null;
    this.wake();
    this.told.state("paused", {});
  }

  // Try again now, if it waits.
  again() {
    this.wake();
  }

  async run(control) {
    let failures = 0;
    this.told.state("opening", {});
    while (!control.signal.aborted) {
      let why = "The sidecar ended the stream.";
      try {
        await this.listen(control, () => { failures = 0; });
      } catch (error) {
        if (control.signal.aborted) return;
        if (error instanceof Unauthorized) {
          await this.told.token(sessionStorage.getItem(KEPT) !== null);
          continue;
        }
        why = error.message;
      }
      if (control.signal.aborted) return;
      const pause = PAUSES[Math.min(failures, PAUSES.length - 1)] * (0.85 + 0.3 * Math.random());
      failures += 1;
      await this.pause(control, pause, why);
    }
  }

  async pause(control, pause, why) {
    const until = Date.now() + pause;
    let woken = false;
    this.wake = () => { woken = true; };
    for (;;) {
      const left = until - Date.now();
      if (woken || left <= 0 || control.signal.aborted) break;
      this.told.state("lost", { why, next: Math.ceil(left / 1000) });
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, Math.min(left, 1000));
        this.wake = () => { woken = true; clearTimeout(timer); resolve(); };
      });
    }
    this.wake = () => {};
    if (!control.signal.aborted) this.told.state("lost", { why, next: 0 });
  }

  async listen(control, begun) {
    const own = new AbortController();
    const end = () => own.abort();
    control.signal.addEventListener("abort", end);
    let watch = setTimeout(end, SILENCE);
    try {
      const answer = await fetch("events?snapshot=1s", {
        headers: headers({ Accept: "text/event-stream", "Last-Event-ID": this.last }),
        cache: "no-store",
        signal: own.signal,
      });
      if (answer.status === 401) throw new Unauthorized();
      if (!answer.ok) {
        const said = await answer.json().catch(() => null);
        throw new Error(String(said?.detail ?? `The sidecar answered with status ${answer.status}.`));
      }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(watch);
        watch = setTimeout(end, SILENCE);
        text += value;
        const blocks = text.split("\n\n");
        text = blocks.pop();
        if (text.length > LONGEST) throw new Error("What came is no stream of events.");
        for (const block of blocks) this.take(block, begun);
      }
    } catch (error) {
      if (error.name === "AbortError") throw new Error("The sidecar says nothing.");
      if (error instanceof TypeError) throw new Error("The sidecar cannot be reached.");
      throw error;
    } finally {
      clearTimeout(watch);
      control.signal.removeEventListener("abort", end);
      own.abort();
    }
  }

  take(block, begun) {
    let kind = "message";
    const data = [];
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      if (colon < 1) continue; // a comment
      const value = line.slice(colon + 1).replace(/^ /, "");
      if (line.startsWith("event:")) kind = value;
      else if (line.startsWith("data:")) data.push(value);
      else if (line.startsWith("id:")) this.last = value;
    }
    if (!data.length) return;
    const said = JSON.parse(data.join("\n"));
    if (kind === "snapshot") {
      begun();
      this.told.snapshot(said);
    } else {
      this.told.event(kind, said);
    }
  }
}
