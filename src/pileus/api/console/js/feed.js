// What is followed while somebody looks: it connects, tries again where it is lost, and rests while the page is hidden
// or the reader has it held still.

import { ApiError } from "./api.js";
import { Signal } from "./signal.js";

const RETRY_MS = { first: 500, most: 10_000 };

/** A kind of feed says how it follows (`run`), and how it looks once (`look`). */
export class Feed {
  /** Emits this feed whenever what it holds, or its phase, changed. */
  changed = new Signal();
  phase = "connecting"; // connecting | live | paused | lost
  error = null;
  #stop = null;
  #paused = false;

  /** Follow, and call `draw` now and after each change, until the returned function is called. */
  show(draw) {
    const leave = this.changed.on(draw);
    const onVisibility = () => this.#update();
    document.addEventListener("visibilitychange", onVisibility);
    this.#update();
    draw();
    return () => {
      leave();
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

  /** Look now, also where nothing is followed. */
  async refresh() {
    try {
      await this.look();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error; // the feed itself tells of a server that is lost
    }
  }

  set(change) {
    Object.assign(this, change);
    this.changed.emit(this);
  }

  #update() {
    const wanted = !this.#paused && !document.hidden;
    if (wanted && !this.#stop) {
      this.#stop = new AbortController();
      this.set({ phase: "connecting" });
      this.#follow(this.#stop.signal);
    } else if (!wanted) {
      this.#disconnect();
      this.set({ phase: "paused" });
    }
  }

  #disconnect() {
    this.#stop?.abort();
    this.#stop = null;
  }

  async #follow(signal) {
    let wait = RETRY_MS.first;
    while (!signal.aborted) {
      try {
        await this.run(signal, () => (wait = RETRY_MS.first));
      } catch (error) {
        if (signal.aborted) return;
        this.set({ phase: "lost", error });
      }
      await pause(wait, signal);
      wait = Math.min(wait * 2, RETRY_MS.most);
    }
  }
}

/** Resolves after so long, or at once where the signal aborts. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
