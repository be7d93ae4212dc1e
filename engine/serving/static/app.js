// The page: what is read, and what then is shown where. The address's fragment names a test image and a finding.

import * as api from "./api.js";
import { byId } from "./build.js";
import { FindingsList, sentence } from "./findings_list.js";
import { listen } from "./gestures.js";
import { describe } from "./model_card.js";
import { PictureView } from "./picture_view.js";
import { SampleBrowser } from "./sample_browser.js";
import { shown } from "./scale.js";
import { counted, findingName, interval, listed, percent } from "./wording.js";

// A pointer that merely passes asks for no heat map.
const PASSING_MS = 90;
const NAMED_IN_HEADLINE = 2;
const LONGEST_NAME = 40;

const stage = byId("stage");
const view = new PictureView(byId("canvas"));
const list = new FindingsList(byId("findings"));
const browser = new SampleBrowser((id) => readSample(id));

let model = null;
let source = null; // {sample} or {upload}, of the picture in view
let answer = null;
let heatMaps = new Map();
let reading = new AbortController();
let looking = new AbortController();

start();

async function start() {
  const asked = location.hash;
  wireSources();
  wireTools();
  list.addEventListener("view", () => showFinding());
  try {
    model = await api.model();
  } catch (error) {
    byId("model-body").replaceChildren(error.message);
    fail(error.message);
    return;
  }
  document.title = `${model.name} · Chest X-ray reading`;
  describe(byId("model-body"), model);
  list.build(model.findings);
  list.show(null, []);
  browser.offer(model.findings);
  byId("browse").hidden = byId("random").hidden = !model.has_samples;
  byId("probability-head").title = model.calibrated ? "calibrated on validation" : "not calibrated";
  byId("key-members").hidden = model.members.length < 2;
  byId("key-threshold").hidden = !model.thresholds;
  byId("opacity").parentElement.hidden = !model.has_heatmaps;
  byId("choose").disabled = false;
  readAsked(asked);
  addEventListener("hashchange", () => readAsked(location.hash));
}

/** Read what an address names. */
function readAsked(fragment) {
  const asked = new URLSearchParams(fragment.slice(1));
  if (asked.get("sample")) readSample(asked.get("sample"), asked.get("finding"));
}

function wireSources() {
  const file = byId("file");
  byId("choose").addEventListener("click", () => file.click());
  stage.addEventListener("click", () => model && view.isEmpty && file.click());
  file.addEventListener("change", () => {
    if (file.files.length) readFile(file.files[0]);
    file.value = "";
  });
  byId("browse").addEventListener("click", () => browser.open());
  byId("random").addEventListener("click", readRandom);
  document.addEventListener("paste", (event) => take(event.clipboardData?.files, event));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    stage.classList.add("offered");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || stage.classList.remove("offered"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("offered");
    take(event.dataTransfer.files, event);
  });
}

function take(files, event) {
  if (!files?.length || !model) return;
  event.preventDefault();
  readFile(files[0]);
}

function wireTools() {
  const pressed = (id) => byId(id).getAttribute("aria-pressed") === "true";
  listen(stage, view, () => pressed("drag-tones"));
  const drags = ["drag-moves", "drag-tones"];
  for (const id of drags) {
    byId(id).addEventListener("click", () => {
      for (const each of drags) byId(each).setAttribute("aria-pressed", String(each === id));
      stage.classList.toggle("toning", id === "drag-tones");
    });
  }
  byId("zoom-in").addEventListener("click", () => view.zoomBy(1.25));
  byId("zoom-out").addEventListener("click", () => view.zoomBy(0.8));
  byId("invert").addEventListener("click", () => view.setTone({ inverted: !view.tone.inverted }));
  byId("reset").addEventListener("click", () => view.reset());
  byId("window").addEventListener("input", (event) => view.setTone({ window: Number(event.target.value) }));
  byId("level").addEventListener("input", (event) => view.setTone({ level: Number(event.target.value) }));
  byId("opacity").addEventListener("input", (event) => {
    event.target.setAttribute("aria-valuetext", `${event.target.value} %`);
    view.setOpacity(Number(event.target.value) / 100);
  });
  for (const choice of document.querySelectorAll('input[name="order"]')) {
    choice.addEventListener("change", () => list.sort(choice.value));
  }
  view.addEventListener("change", showView);
}

function readFile(file) {
  const name = shortened(file.name || "pasted picture");
  return read(name, async (asking) => {
    // The server would refuse it, but only by ending the upload.
    if (file.size > model.max_upload_bytes) {
      throw new api.Failure(`${megabytes(file.size)} are too many; at most ${megabytes(model.max_upload_bytes)}`);
    }
    const found = await api.predict(file, asking);
    return [found, { upload: found.id }];
  });
}

function readSample(id, finding = null) {
  return read(id, async (asking) => [await api.sample(id, asking), { sample: id }], finding);
}

async function readRandom() {
  try {
    await readSample((await api.randomSample("")).id);
  } catch (error) {
    fail(error.message);
  }
}

/** Ask for a reading and its picture; a later one takes the place of one under way. */
async function read(name, ask, finding = null) {
  reading.abort();
  reading = new AbortController();
  const { signal } = reading;
  const tell = (line) => signal.aborted || say(line || `Reading ${name} …`);
  tell("");
  try {
    const [found, place] = await ask({ signal, tell });
    const picture = await api.picture(place, { signal, tell });
    if (!signal.aborted) show(name, found, place, picture, finding);
  } catch (error) {
    if (!signal.aborted) fail(error instanceof api.Failure ? `${name}: ${error.message}` : `${name}: ${error}`);
  }
}

function show(name, found, place, picture, finding) {
  [answer, source, heatMaps] = [{ ...found, findings: found.findings.map(shown) }, place, new Map()];
  say("");
  byId("fault").textContent = "";
  byId("empty").hidden = true;
  stage.classList.remove("vacant");
  byId("tools").disabled = false;
  byId("identity").textContent = name;
  byId("canvas").setAttribute("aria-label", `Chest X-ray ${name}`);
  view.show(picture);
  list.show(answer, memberNames());
  byId("key-box").hidden = !answer.boxes?.length;
  document.body.classList.toggle("without-truth", !answer.truth);
  const [headline, subline] = [headlineOf(answer), sublineOf(answer)];
  byId("headline").textContent = headline;
  byId("subline").textContent = subline;
  byId("announcement").textContent = `${name} is read. ${headline}. ${subline}`;
  if (finding) list.select(finding);
  else remember();
}

/** Show no picture, so that an old reading is never taken for that of the new file. */
function fail(line) {
  [answer, source] = [null, null];
  say("");
  view.show(null);
  list.show(null, []);
  for (const id of ["identity", "subline", "announcement", "overlay-name", "detail"]) byId(id).textContent = "";
  byId("headline").textContent = "Fourteen findings";
  byId("canvas").setAttribute("aria-label", "No picture");
  document.body.classList.remove("without-truth");
  byId("tools").disabled = true;
  byId("empty").hidden = false;
  stage.classList.add("vacant");
  byId("fault").textContent = line;
}

function say(line) {
  byId("working").textContent = line;
  stage.setAttribute("aria-busy", String(line !== ""));
}

async function showFinding() {
  looking.abort();
  looking = new AbortController();
  const { signal } = looking;
  const finding = list.inView;
  const name = byId("overlay-name");
  showDetail(finding);
  remember();
  view.lay(null, []);
  name.textContent = "";
  if (!finding) return;
  const boxes = (answer.boxes ?? []).filter((box) => box.finding === finding);
  view.lay(heatMaps.get(finding) ?? null, boxes);
  name.textContent = `${findingName(finding)}${model.has_heatmaps ? " …" : ""}`;
  if (!model.has_heatmaps) return;
  try {
    if (!heatMaps.has(finding)) await fetchHeatMap(finding, signal, name);
    if (signal.aborted) return;
    view.lay(heatMaps.get(finding), boxes);
    name.textContent = findingName(finding);
  } catch (error) {
    if (!signal.aborted) name.textContent = `${findingName(finding)}: no heat map: ${error.message}`;
  }
}

async function fetchHeatMap(finding, signal, name) {
  const known = heatMaps;
  await new Promise((resolve) => setTimeout(resolve, PASSING_MS));
  if (signal.aborted) return;
  const tell = (line) => (name.textContent = line);
  known.set(finding, await api.heatMap(source, finding, { signal, tell }));
}

function showDetail(finding) {
  const detail = byId("detail");
  if (!finding) {
    const aim = model?.has_heatmaps ? "to see where the model looked" : "to read more of it";
    detail.textContent = answer ? `Point at a finding, or select it, ${aim}.` : "";
    return;
  }
  const found = answer.findings.find((value) => value.finding === finding);
  const boxed = (answer.boxes ?? []).some((box) => box.finding === finding);
  const title = document.createElement("strong");
  title.textContent = findingName(finding);
  const own = found.calibrated === null ? "" : `; ${percent(found.own)} before calibration`;
  const judged = model.auroc?.[finding] ? `. AUROC on the test split ${interval(model.auroc[finding])}.` : ".";
  detail.replaceChildren(title, ` ${sentence(found, memberNames(), answer.truth?.[finding], boxed)}${own}${judged}`);
}

function showView() {
  const { window: width, level, inverted } = view.tone;
  byId("window").value = width;
  byId("level").value = level;
  byId("invert").setAttribute("aria-pressed", String(inverted));
  byId("tone-values").textContent = view.isEmpty ? "" : `W ${Math.round(width)}  L ${Math.round(level)}`;
  byId("scale").textContent = view.isEmpty ? "" : `${Math.round(100 * view.scale)} %`;
  byId("zoom-out").disabled = view.zoom <= 1;
}

/** Keep in the address what can be shown again: a test image, with its finding. */
function remember() {
  const asked = new URLSearchParams();
  if (source?.sample) asked.set("sample", source.sample);
  if (source?.sample && list.inView) asked.set("finding", list.inView);
  history.replaceState(null, "", asked.size ? `#${asked}` : location.pathname);
}

function headlineOf({ findings }) {
  const ranked = [...findings].sort((one, other) => other.probability - one.probability);
  if (findings.every((value) => value.threshold === null)) {
    return `Most probable: ${findingName(ranked[0].finding)}, ${percent(ranked[0].probability)}`;
  }
  const called = ranked.filter((value) => value.called).map((value) => findingName(value.finding));
  if (!called.length) return "No finding is called";
  if (called.length > NAMED_IN_HEADLINE) return `${called.length} of ${findings.length} findings are called`;
  return `${listed(called)} ${called.length === 1 ? "is" : "are"} called`;
}

function sublineOf({ truth }) {
  if (!truth) return "The truth is not known: the picture is not of the data set.";
  const present = Object.keys(truth).filter((finding) => truth[finding]).map(findingName);
  const said = present.length ? `${counted(present.length, "finding")}: ${listed(present)}` : "no finding";
  return `The data set says ${said}.`;
}

function memberNames() {
  return model.members.map((member) => member.name);
}

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

function shortened(name) {
  return name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}…` : name;
}
