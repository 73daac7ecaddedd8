// How fast a count rises, by its last half minute.

const WINDOW_S = 30;

export class Pace {
  #seen = []; // { t, done }

  see(done, t) {
    if (done < this.#seen.at(-1)?.done) this.#seen = []; // it was begun again
    this.#seen.push({ t, done });
    while (this.#seen.length > 2 && this.#seen[1].t <= t - WINDOW_S) this.#seen.shift();
  }

  /** Per second; 0 where nothing is known. */
  get rate() {
    const [first, last] = [this.#seen[0], this.#seen.at(-1)];
    return last?.t > first?.t ? (last.done - first.done) / (last.t - first.t) : 0;
  }
}
