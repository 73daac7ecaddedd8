// The server's figures, second by second: seeded from the kept series, then followed as they come. Nothing is fetched
// while nobody looks.

import { ApiError } from "./api.js";
import { Signal } from "./signal.js";

const KEPT_POINTS = 300; // as many seconds as the server keeps
const KEPT_EVENTS = 500; // so many, too
const SILENCE_MS = 6_000; // a feed of one point a second that is silent so long is broken
const RETRY_MS = { first: 500, most: 10_000 };

export class LiveFeed {
  /** Emits this feed whenever its points, events, status or phase changed. */
  changed = new Signal();
  points = [];
  events = []; // what happened to deployments and replicas, oldest first
  status = null;
  phase = "connecting"; // connecting | live | paused | lost
  error = null;
  #api;
  #stop = null;
  #paused = false;

  constructor(api) {
    this.#api = api;
  }

  /** Follow until the returned function is called. */
  follow() {
    const onVisibility = () => this.#update();
    document.addEventListener("visibilitychange", onVisibility);
    this.#update();
    return () => {
      document.removeEventListener("visibilitychange", onVisibility);
      this.#disconnect();
    };
  }

  get paused() {
    return this.#paused;
  }

  set paused(paused) {
    this.#paused = paused;
    this.#update();
  }

  /** Look at the status now, also where nothing is followed. */
  async refresh() {
    try {
      this.#set({ status: await this.#api.get("admin/v1/status") });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error; // the feed itself tells of a server that is lost
    }
  }

  #update() {
    const wanted = !this.#paused && !document.hidden;
    if (wanted && !this.#stop) {
      this.#stop = new AbortController();
      this.#set({ phase: "connecting" });
      this.#run(this.#stop.signal);
    } else if (!wanted) {
      this.#disconnect();
      this.#set({ phase: "paused" });
    }
  }

  #disconnect() {
    this.#stop?.abort();
    this.#stop = null;
  }

  async #run(signal) {
    let wait = RETRY_MS.first;
    while (!signal.aborted) {
      try {
        await this.#seed(signal);
        await this.#listen(signal, () => (wait = RETRY_MS.first));
      } catch (error) {
        if (signal.aborted) return;
        this.#set({ phase: "lost", error });
      }
      await pause(wait, signal);
      wait = Math.min(wait * 2, RETRY_MS.most);
    }
  }

  async #seed(signal) {
    const since = this.points.at(-1)?.t ?? 0;
    const [series, status] = await Promise.all([
      this.#api.get(`admin/v1/series?since=${since}`, { signal }),
      this.#api.get("admin/v1/status", { signal }),
    ]);
    this.#append(series.points);
    this.#set({ status });
  }

  async #listen(signal, onPoint) {
    const connection = new AbortController();
    signal.addEventListener("abort", () => connection.abort(), { once: true });
    let known = []; // the first point of a connection has all events
    let silence = setTimeout(() => connection.abort(), SILENCE_MS);
    try {
      for await (const { data } of this.#api.events("admin/v1/live", { signal: connection.signal })) {
        clearTimeout(silence);
        silence = setTimeout(() => connection.abort(), SILENCE_MS);
        const { point, status, events } = JSON.parse(data);
        this.#append([point]);
        known = events.length ? [...known, ...events].slice(-KEPT_EVENTS) : known;
        this.#set({ phase: "live", status, events: known, error: null });
        onPoint();
      }
    } finally {
      clearTimeout(silence);
    }
  }

  /** Points by time, without the ones already here; the server's clock decides. */
  #append(points) {
    const last = this.points.at(-1)?.t ?? -Infinity;
    this.points = [...this.points, ...points.filter((point) => point && point.t > last)].slice(-KEPT_POINTS);
  }

  #set(change) {
    Object.assign(this, change);
    this.changed.emit(this);
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
