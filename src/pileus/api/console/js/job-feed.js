// The latest jobs, and one of them with its log, looked at once a second.

import { ApiError } from "./api.js";
import { Feed, pause } from "./feed.js";
import { Pace } from "./pace.js";

const LOOK_MS = 1000;
const PAGE = 50;
const MOST = 200; // in one answer
const FIRST_LINES = 200;
const KEPT_LINES = 1000; // as many as the server keeps
const POINTS = 200; // of each curve
const FIGURE_LOOKS = 5;

const path = (id) => `v1/jobs/${encodeURIComponent(id)}`;

export class JobFeed extends Feed {
  jobs = null; // the latest first; null until they are known
  kinds = new Set(); // that were seen
  job = null; // the chosen one
  lines = []; // of its log, oldest first
  points = []; // its figures, by step
  #api;
  #wanted = { kind: "", state: "", limit: PAGE };
  #hasMore = false;
  #id = null;
  #paces = new Map(); // by job
  #looks = 0; // at the chosen one

  constructor(api) {
    super();
    this.#api = api;
  }

  get wanted() {
    return this.#wanted;
  }

  /** Whether earlier ones can be shown as well. */
  get hasMore() {
    return this.#hasMore && this.#wanted.limit < MOST;
  }

  /** Show only those of this kind and state; empty is all. */
  filter(kind, state) {
    this.#wanted = { kind, state, limit: PAGE };
    return this.refresh();
  }

  more() {
    this.#wanted = { ...this.#wanted, limit: Math.min(MOST, this.#wanted.limit + PAGE) };
    return this.refresh();
  }

  /** Look closely at one; null at none. */
  choose(id) {
    this.#id = id;
    this.set({ job: this.jobs?.find((job) => job.id === id) ?? null, lines: [], points: [] });
    this.#looks = 0;
    return this.refresh();
  }

  /** What was done, a second, of late; 0 where it does not move. */
  rate({ id }) {
    return this.#paces.get(id)?.rate ?? 0;
  }

  /** The server's answer. Raises ApiError. */
  async ask(act, { id }) {
    const job = await this.#api.post(`${path(id)}/${act}`);
    await this.refresh();
    return job;
  }

  async run(signal, onGood) {
    while (!signal.aborted) {
      await this.look(signal);
      if (signal.aborted) return;
      this.set({ phase: "live", error: null });
      onGood();
      await pause(LOOK_MS, signal);
    }
  }

  async look(signal) {
    await Promise.all([this.#lookAtAll(signal), this.#lookAtOne(signal)]);
  }

  async #lookAtAll(signal) {
    const wanted = this.#wanted;
    const query = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
    const { data, has_more: hasMore } = await this.#api.get(`v1/jobs?${query}`, { signal });
    if (wanted !== this.#wanted) return; // something else is wanted meanwhile
    for (const { kind } of data) this.kinds.add(kind);
    this.#measure(data);
    this.#hasMore = hasMore;
    this.set({ jobs: data });
  }

  async #lookAtOne(signal) {
    const id = this.#id;
    if (id === null) return;
    const last = this.lines.at(-1)?.sequence;
    const from = last === undefined ? `limit=${FIRST_LINES}` : `after=${last}&limit=${KEPT_LINES}`;
    try {
      const [job, { data }, points] = await Promise.all([
        this.#api.get(path(id), { signal }),
        this.#api.get(`${path(id)}/logs?${from}`, { signal }),
        this.#lookAtFigures(id, signal),
      ]);
      if (id !== this.#id) return;
      const known = this.lines.at(-1)?.sequence ?? -1; // another look may have been quicker
      const lines = [...this.lines, ...data.filter(({ sequence }) => sequence > known)].slice(-KEPT_LINES);
      this.set({ job, lines, points });
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      if (id === this.#id) this.choose(null); // it was forgotten
    }
  }

  /** They change slowly: every fifth look is enough. */
  async #lookAtFigures(id, signal) {
    if (this.#looks++ % FIGURE_LOOKS) return this.points;
    return (await this.#api.get(`${path(id)}/metrics?limit=${POINTS}`, { signal })).data;
  }

  #measure(jobs) {
    const running = new Map(jobs.filter(({ state }) => state === "running").map((job) => [job.id, job]));
    this.#paces = new Map([...running.keys()].map((id) => [id, this.#paces.get(id) ?? new Pace()]));
    for (const [id, pace] of this.#paces) pace.see(running.get(id).done, performance.now() / 1000);
  }
}
