// What the model is, how it was judged, and its limits, as the server tells.

import { make, placed } from "./build.js";
import { counted, findingName, interval } from "./wording.js";

// Intervals are drawn from chance to perfect.
const CHANCE = 0.5;

/** @param {HTMLElement} body that is filled; @param {object} model as the server describes it. */
export function describe(body, model) {
  const facts = make("dl", {}, ...factsOf(model).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const limits = make("ul", { class: "limits" }, ...model.limits.map((line) => make("li", {}, line)));
  const about = make("div", { class: "about" }, facts, make("h3", {}, "Limits"), limits);
  body.replaceChildren(about, model.auroc ? judged(model) : notJudged());
}

function factsOf(model) {
  const isEnsemble = model.members.length > 1;
  const members = model.members.map(({ name, weight }) => (isEnsemble ? `${name} (weight ${round(weight)})` : name));
  const facts = [
    [isEnsemble ? "Ensemble" : "Model", model.name],
    ...(isEnsemble ? [["Members", members.join(", ")]] : []),
    ["Picture", `${model.side_px} × ${model.side_px} pixels, grey`],
    ["Probabilities", model.calibrated ? "calibrated on validation" : "the model's own, not calibrated"],
    ["Thresholds", model.thresholds ? chosenBy(model.thresholds.name) : "none; nothing is called"],
  ];
  if (model.split) facts.push(["Judged on", judgedOn(model.split)]);
  if (model.phantom) facts.push(["Data", "phantoms, made by a program; no patients"]);
  facts.push(["Version", `${model.version}, model ${model.sha256.slice(0, 12)}`]);
  return facts;
}

function chosenBy(name) {
  const rule = name === "youden" ? "where sensitivity plus specificity is greatest (Youden)" : name;
  return `${rule}, chosen on validation`;
}

function judgedOn({ name, strategy, images, patients }) {
  return `the ${name} split (${strategy}): ${counted(images, "image")} of ${counted(patients, "patient")}, none of them trained on`;
}

function judged(model) {
  const rows = model.findings.map((finding) => row(findingName(finding), model.auroc[finding]));
  return make(
    "table",
    { class: "judged" },
    make("caption", {}, "AUROC on the test split: 0.5 is chance, 1 is perfect; in brackets the 95 % interval"),
    make("thead", {}, make("tr", {}, ...["Finding", axis(), "AUROC"].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows),
    make("tfoot", {}, model.macro_auroc ? row("Mean of all", model.macro_auroc) : null),
  );
}

function row(name, estimate) {
  const range = make("span", { class: "range", "aria-hidden": "true" });
  if (estimate && estimate.value !== null) {
    const line = make("i", { class: "line" });
    line.style.setProperty("--from", aboveChance(estimate.low ?? estimate.value));
    line.style.setProperty("--to", aboveChance(estimate.high ?? estimate.value));
    range.append(line, placed(make("i", { class: "dot" }), aboveChance(estimate.value)));
  }
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, name),
    make("td", { class: "drawn" }, range),
    make("td", {}, interval(estimate)),
  );
}

function axis() {
  const ends = make("span", { class: "axis", "aria-hidden": "true" }, make("i", {}, "0.5"), make("i", {}, "1"));
  const drawn = document.createDocumentFragment();
  drawn.append(make("span", { class: "unseen" }, "Drawn"), ends);
  return drawn;
}

function notJudged() {
  return make("p", { class: "muted" }, "It hasn't been judged on the test split: how good it is, is not known. Run engine evaluate.");
}

function aboveChance(value) {
  return Math.min(1, Math.max(0, (value - CHANCE) / (1 - CHANCE)));
}

function round(weight) {
  return Number(weight.toFixed(3));
}
