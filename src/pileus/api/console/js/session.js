// Who is signed in. The key lives in this tab only (sessionStorage), and goes when the tab does.

import { Api, ApiError } from "./api.js";
import { Signal } from "./signal.js";

const STORED = "pileus.key";

export class Session {
  /** Emits after each sign-in and sign-out, with the reason of the latter: `null`, or an ApiError. */
  changed = new Signal();
  api = null;
  me = null;

  /** Sign in again with the key that this tab remembers; false where there is none. Raises as `signIn` does. */
  async resume() {
    const key = sessionStorage.getItem(STORED);
    if (key) await this.signIn(key);
    return this.me !== null;
  }

  /** Raises ApiError where the key is not good. */
  async signIn(key) {
    const api = new Api(key);
    const me = await identify(api);
    sessionStorage.setItem(STORED, key);
    Object.assign(this, { api, me });
    api.refused.on((error) => this.api === api && this.signOut(error));
    this.changed.emit(null);
  }

  signOut(reason = null) {
    sessionStorage.removeItem(STORED);
    Object.assign(this, { api: null, me: null });
    this.changed.emit(reason);
  }

  may(permission) {
    return this.me.permissions.includes(permission);
  }
}

/** A key that may not ask who it is can still be a good one: then the list of models tells. */
async function identify(api) {
  try {
    return await api.get("admin/v1/me");
  } catch (error) {
    if (!(error instanceof ApiError) || ![403, 404].includes(error.status)) throw error;
    await api.get("v1/models");
    return { name: "", role: "user", permissions: ["generate", "models.read"] };
  }
}
