"""What the tests of the page ask its document, in JavaScript."""

# What each row shows, from top to bottom.
ROWS = """(rows) => rows.map((row) => {
  const place = (mark) => Number(mark.style.getPropertyValue("--at"));
  const track = row.querySelector(".track");
  return [row.dataset.finding, {
    probability: Number(track.getAttribute("aria-valuenow")),
    value: row.querySelector(".value").textContent,
    called: row.querySelector(".call").lastChild?.textContent,
    truth: row.querySelector(".truth").lastChild?.textContent,
    threshold: place(track.querySelector(".threshold")),
    members: [...track.querySelectorAll(".ticks i")].map(place),
  }];
})"""

# Controls without a name, pictures without an alternative, identifiers that stand twice.
UNNAMED = """() => {
  const all = (wanted) => [...document.querySelectorAll(wanted)];
  const texts = (elements) => [...elements].map((element) => element?.textContent ?? "").join("");
  const labelled = (element) => (element.getAttribute("aria-labelledby") ?? "").split(" ");
  const name = (element) => element.getAttribute("aria-label")
    || texts(labelled(element).map((id) => document.getElementById(id)))
    || texts(element.labels ?? [])
    || element.textContent;
  const controls =
    "button, input:not([hidden]), select, [tabindex='0'], [role=meter], [role=img], dialog, legend";
  return [
    ...all(controls).filter((element) => !name(element).trim()),
    ...all("img:not([alt])"),
    ...all("[id]").filter(({ id }) => all(`[id="${id}"]`).length > 1),
  ].map((element) => element.outerHTML);
}"""

# Each text's contrast with the nearest ground behind it, by WCAG.
CONTRASTS = """(elements) => elements.map((element) => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const ground = (at) => {
    const colour = channels(getComputedStyle(at).backgroundColor);
    return colour.length > 3 && colour[3] === 0 ? ground(at.parentElement) : colour;
  };
  const linear = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = ([red, green, blue]) =>
    0.2126 * linear(red / 255) + 0.7152 * linear(green / 255) + 0.0722 * linear(blue / 255);
  const lights = [light(channels(getComputedStyle(element).color)), light(ground(element))];
  return (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
})"""

# Whether what is in focus shows it.
FOCUS_SEEN = """() => ["", "::after"].some(
  (part) => getComputedStyle(document.activeElement, part || undefined).outlineStyle === "solid"
)"""

# Drops or pastes a file: [kind, name, bytes].
GIVE = """([kind, name, bytes]) => {
  const given = new DataTransfer();
  given.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
  const how = { bubbles: true, cancelable: true };
  document.body.dispatchEvent(kind === "drop"
    ? new DragEvent("drop", { dataTransfer: given, ...how })
    : new ClipboardEvent("paste", { clipboardData: given, ...how }));
}"""
