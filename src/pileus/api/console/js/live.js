// The server's figures, second by second: seeded from the kept series, then followed as they come. Nothing is fetched
// while nobody looks.

import { Feed } from "./feed.js";

const KEPT_POINTS = 300; // as many seconds as the server keeps
const KEPT_EVENTS = 500; // so many, too
const SILENCE_MS = 6_000; // a feed of one point a second that is silent so long is broken

export class LiveFeed extends Feed {
  points = [];
  events = []; // what happened to deployments and replicas, oldest first
  status = null;
  #api;

  constructor(api) {
    super();
    this.#api = api;
  }

  async look() {
    this.set({ status: await this.#api.get("admin/v1/status") });
  }

  async run(signal, onGood) {
    await this.#seed(signal);
    await this.#listen(signal, onGood);
  }

  async #seed(signal) {
    const since = this.points.at(-1)?.t ?? 0;
    const [series, status] = await Promise.all([
      this.#api.get(`admin/v1/series?since=${since}`, { signal }),
      this.#api.get("admin/v1/status", { signal }),
    ]);
    this.#append(series.points);
    this.set({ status });
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
        this.set({ phase: "live", status, events: known, error: null });
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
}
