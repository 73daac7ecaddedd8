// Work that goes on behind the requests: the latest jobs, and one of them closely.

import { h } from "../dom.js";
import { closeDialogs } from "./dialog.js";
import { JobDetails } from "./job-details.js";
import { COLUMNS, JobRow, named } from "./job-row.js";
import { keep } from "./kept.js";
import { offer } from "./offer.js";
import { Pulse } from "./pulse.js";

const STATES = ["waiting", "queued", "running", "paused", "succeeded", "failed", "cancelled", "expired"];
const CLASSES = { job: "col-job", state: "col-job-state", tenant: "col-tenant", age: "col-age" };

export function showJobs(root, { i18n, jobs: feed }) {
  const { t } = i18n;
  const rows = new Map();
  const body = h("tbody");
  const pulse = new Pulse(i18n, feed);
  const details = new JobDetails(i18n, feed, close);
  const onchange = () => feed.filter(kind.value, state.value);
  const kind = h("select", { id: "jobs-kind", onchange });
  const state = h("select", { id: "jobs-state", onchange });
  const none = h("p.empty", { hidden: true });
  const more = h("button.small", { type: "button", onclick: () => feed.more() }, t("jobs.more"));
  const card = h("div.card.table-card", { hidden: true }, table(body, t), h("div.table-foot", {}, more));
  const layout = h("div.jobs-layout", {}, h("div", {}, none, card), details.element);

  async function open(id) {
    await feed.choose(id);
    details.focus();
  }

  function close() {
    const { job } = feed;
    feed.choose(null);
    (rows.get(job?.id) ?? document.getElementById("main")).focus();
  }

  function draw() {
    pulse.update();
    const { kind: wantedKind, state: wantedState } = feed.wanted;
    offer(kind, [...new Set([...feed.kinds, wantedKind].filter(Boolean))].toSorted(), {
      all: t("jobs.kind.all"),
      name: (value) => named("job.kind", value, i18n),
      chosen: wantedKind,
    });
    offer(state, STATES, {
      all: t("jobs.state.all"),
      name: (value) => t(`job.state.${value}`),
      chosen: wantedState,
    });
    details.update(feed.job, feed.lines, feed.points, feed.job ? feed.rate(feed.job) : 0);
    layout.classList.toggle("with-details", feed.job !== null);
    if (feed.jobs === null) return;
    drawRows(feed.jobs, wantedKind || wantedState);
  }

  function drawRows(jobs, filtered) {
    keep(
      rows,
      body,
      jobs,
      ({ id }) => id,
      () => new JobRow(i18n, { rate: (job) => feed.rate(job), onDetails: open }),
    );
    for (const [id, row] of rows) row.choose(id === feed.job?.id);
    more.hidden = !feed.hasMore;
    card.hidden = jobs.length === 0;
    none.hidden = jobs.length > 0;
    const words = filtered ? "jobs.none.such" : "jobs.none";
    if (none.dataset.words === words) return;
    none.dataset.words = words;
    none.replaceChildren(t(words), ...(filtered ? [] : [h("code", {}, "pileus batch run questions.jsonl")]));
  }

  root.append(
    h(
      "div.page",
      {},
      h(
        "div.page-head",
        {},
        h("div", {}, h("h1", {}, t("nav.jobs")), h("p.lead", {}, t("jobs.lead"))),
        h(
          "div.page-tools",
          {},
          pulse.elements,
          h("label.visually-hidden", { for: "jobs-kind" }, t("jobs.kind")),
          kind,
          h("label.visually-hidden", { for: "jobs-state" }, t("job.state")),
          state,
        ),
      ),
      layout,
    ),
  );
  const leave = feed.show(draw);
  return {
    dispose() {
      leave();
      closeDialogs();
    },
  };
}

function table(body, t) {
  const head = COLUMNS.map((column) => h("th", { scope: "col", class: CLASSES[column] }, t(`job.${column}`)));
  return h(
    "table.jobs",
    {},
    h("caption.visually-hidden", {}, t("nav.jobs")),
    h("thead", {}, h("tr", {}, head, h("td.col-log"))),
    body,
  );
}
