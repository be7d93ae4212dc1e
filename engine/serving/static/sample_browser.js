// The test images to choose from, in a dialog. What becomes of the chosen one is the page's.

import { pictureAddress, randomSample, samples } from "./api.js";
import { byId, make } from "./build.js";
import { counted, findingName, listed } from "./wording.js";

const PAGE = 24;
const TYPING_MS = 200;

/** Lets the user choose; calls `choose` with an image id. */
export class SampleBrowser {
  #dialog = byId("samples");
  #list = byId("samples-list");
  #count = byId("samples-count");
  #more = byId("samples-more");
  #finding = byId("samples-finding");
  #query = byId("samples-query");
  #asked = new AbortController();
  #choose;
  #timer;

  constructor(choose) {
    this.#choose = choose;
    byId("samples-close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("click", (event) => event.target === this.#dialog && this.#dialog.close());
    this.#finding.addEventListener("change", () => this.#load(0));
    this.#query.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#load(0), TYPING_MS);
    });
    this.#more.addEventListener("click", () => this.#load(this.#list.children.length));
    byId("samples-random").addEventListener("click", () => this.#random());
  }

  /** @param {string[]} findings to choose by. */
  offer(findings) {
    this.#finding.append(...findings.map((finding) => make("option", { value: finding }, findingName(finding))));
  }

  open() {
    this.#dialog.showModal();
    if (!this.#list.children.length) this.#load(0);
  }

  async #random() {
    try {
      this.#take((await randomSample(this.#finding.value)).id);
    } catch (error) {
      this.#count.textContent = error.message;
    }
  }

  #take(id) {
    this.#dialog.close();
    this.#choose(id);
  }

  async #load(offset) {
    this.#asked.abort();
    this.#asked = new AbortController();
    const { signal } = this.#asked;
    const wanted = { finding: this.#finding.value, query: this.#query.value.trim(), offset, limit: PAGE };
    try {
      const found = await samples(wanted, { signal });
      if (!offset) this.#list.replaceChildren();
      const first = this.#list.children.length;
      this.#list.append(...found.samples.map((sample) => this.#card(sample)));
      this.#count.textContent = found.total ? counted(found.total, "image") : "No test image is like that.";
      this.#more.hidden = this.#list.children.length >= found.total;
      if (offset) this.#list.children[first]?.firstChild.focus();
    } catch (error) {
      if (error.name !== "AbortError") this.#count.textContent = error.message;
    }
  }

  #card({ id, findings, view, sex }) {
    const reported = listed(findings.map(findingName)) || "No finding";
    return make(
      "li",
      {},
      make(
        "button",
        { type: "button", click: () => this.#take(id) },
        make("img", { src: pictureAddress({ sample: id }), alt: "", loading: "lazy", width: "160", height: "160" }),
        make("span", { class: "reported" }, reported),
        make("span", { class: "muted" }, id),
        make("span", { class: "muted" }, [view, sex].filter(Boolean).join(" · ")),
      ),
    );
  }
}
