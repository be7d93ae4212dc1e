// The findings as rows: probability, members, threshold, call and truth; which of them is selected or pointed at.

import { make, placed } from "./build.js";
import { findingName, listed, percent } from "./wording.js";

const GLIDE = { duration: 260, easing: "cubic-bezier(.2, 0, 0, 1)" };

/** Rows that are made once; announces another finding in view as `view`, with `inView` null for none. */
export class FindingsList extends EventTarget {
  #root;
  #rows = new Map();
  #fixed = [];
  #answer = null;
  #order = "probability";
  #selected = null;
  #pointed = null;

  constructor(root) {
    super();
    this.#root = root;
    root.addEventListener("keydown", (event) => this.#key(event));
    root.addEventListener("pointerleave", () => this.#point(null));
  }

  /** The finding whose heat map is wanted. */
  get inView() {
    return this.#answer ? (this.#pointed ?? this.#selected) : null;
  }

  /** @param {string[]} findings in the fixed order; rows without values. */
  build(findings) {
    this.#fixed = findings;
    this.#rows = new Map(findings.map((finding, place) => [finding, this.#row(finding, place)]));
    this.#root.replaceChildren(...[...this.#rows.values()].map(({ item }) => item));
    this.#rove(findings[0]);
  }

  /** @param {object | null} answer of a reading; @param {string[]} members by name. */
  show(answer, members) {
    this.#answer = answer;
    this.#selected = null;
    this.#pointed = null;
    const values = new Map(answer?.findings.map((value) => [value.finding, value]));
    const boxed = new Set(answer?.boxes?.map((box) => box.finding));
    for (const [finding, row] of this.#rows) {
      this.#fill(row, values.get(finding), members, answer?.truth?.[finding], boxed.has(finding));
    }
    this.#root.classList.toggle("read", answer !== null);
    this.#root.classList.toggle("with-truth", Boolean(answer?.truth));
    this.#arrange();
    this.#rove(this.#arranged()[0]);
    this.#mark();
  }

  /** @param {"probability" | "fixed"} order */
  sort(order) {
    this.#order = order;
    this.#arrange();
  }

  select(finding) {
    this.#selected = this.#rows.has(finding) ? finding : null;
    this.#mark();
  }

  #row(finding, place) {
    const description = make("span", { id: `finding-${place}`, class: "unseen", "aria-hidden": "true" });
    const button = make(
      "button",
      {
        type: "button",
        class: "name",
        "aria-pressed": "false",
        "aria-describedby": description.id,
        click: () => this.select(this.#selected === finding ? null : finding),
        focus: () => {
          this.#rove(finding);
          if (button.matches(":focus-visible")) this.select(finding);
        },
      },
      findingName(finding),
    );
    const ticks = make("span", { class: "ticks" });
    const threshold = make("span", { class: "threshold", hidden: true });
    const bar = make("span", { class: "bar" });
    const track = make("div", { class: "track", role: "meter", "aria-label": findingName(finding) }, bar, ticks, threshold);
    track.setAttribute("aria-valuemin", "0");
    track.setAttribute("aria-valuemax", "1");
    const value = make("span", { class: "value" });
    const called = make("span", { class: "call" });
    const truth = make("span", { class: "truth" });
    const item = make(
      "li",
      {
        "data-finding": finding,
        pointerenter: (event) => event.pointerType === "mouse" && this.#point(finding),
      },
      button, track, value, called, truth, description,
    );
    return { item, button, track, bar, ticks, threshold, value, called, truth, description };
  }

  #fill(row, found, members, truth, isBoxed) {
    const probability = found?.probability ?? null;
    row.item.classList.toggle("called", found?.called === true);
    row.item.classList.toggle("boxed", isBoxed);
    row.button.disabled = !found;
    placed(row.bar, probability ?? 0);
    const spread = found && found.members.length > 1 ? found.members : [];
    row.ticks.replaceChildren(...spread.map((share) => placed(make("i"), share)));
    row.threshold.hidden = (found?.threshold ?? null) === null;
    placed(row.threshold, found?.threshold ?? 0);
    row.value.textContent = percent(probability);
    const hasCall = found && found.threshold !== null;
    row.called.replaceChildren(...(hasCall ? [hint("called: "), found.called ? "Yes" : "No"] : found ? ["–"] : []));
    row.truth.replaceChildren(...(truth === undefined ? [] : [hint("truth: "), truth ? "Present" : "Absent"]));
    row.truth.classList.toggle("present", truth === true);
    row.description.textContent = found ? sentence(found, members, truth, isBoxed) : "";
    if (found) row.track.setAttribute("aria-valuenow", probability);
    else row.track.setAttribute("aria-valuenow", "0");
    row.track.setAttribute("aria-valuetext", found ? row.description.textContent : "no picture read");
  }

  #arranged() {
    if (this.#order === "fixed" || !this.#answer) return this.#fixed;
    const probability = new Map(this.#answer.findings.map((value) => [value.finding, value.probability]));
    return [...this.#fixed].sort((one, other) => probability.get(other) - probability.get(one));
  }

  // Rows glide to their new places; the one in focus keeps it.
  #arrange() {
    const items = this.#arranged().map((finding) => this.#rows.get(finding).item);
    if (items.every((item, place) => this.#root.children[place] === item)) return;
    const before = new Map(items.map((item) => [item, item.offsetTop]));
    const focused = this.#root.contains(document.activeElement) ? document.activeElement : null;
    this.#root.replaceChildren(...items);
    focused?.focus({ preventScroll: true });
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const item of items) {
      const moved = before.get(item) - item.offsetTop;
      if (moved) item.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], GLIDE);
    }
  }

  #point(finding) {
    this.#pointed = finding;
    this.#mark();
  }

  #mark() {
    for (const [finding, { item, button }] of this.#rows) {
      button.setAttribute("aria-pressed", String(finding === this.#selected));
      item.classList.toggle("in-view", finding === this.inView);
    }
    this.dispatchEvent(new Event("view"));
  }

  // One row alone is a stop of the Tab key.
  #rove(finding) {
    for (const [name, { button }] of this.#rows) button.tabIndex = name === finding ? 0 : -1;
  }

  #key(event) {
    const items = [...this.#root.children];
    const here = items.findIndex((item) => item.contains(document.activeElement));
    const places = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: items.length - 1 };
    if (event.key === "Escape") this.select(null);
    else if (event.key in places && here >= 0) {
      event.preventDefault();
      items.at(places[event.key] % items.length).querySelector("button").focus();
    }
  }
}

/** What a row says in words. */
export function sentence(found, members, truth, isBoxed) {
  const parts = [percent(found.probability)];
  if (found.threshold !== null) {
    parts.push(`${found.called ? "called" : "not called"}, threshold ${percent(found.threshold)}`);
  }
  if (found.members.length > 1) {
    parts.push(`members: ${listed(found.members.map((share, place) => `${members[place] ?? place + 1} ${percent(share)}`))}`);
  }
  if (truth !== undefined) parts.push(`truth: ${truth ? "present" : "absent"}`);
  if (isBoxed) parts.push("outlined in the data set");
  return parts.join("; ");
}

function hint(text) {
  return make("span", { class: "unseen" }, text);
}
