// Mouse, touch, wheel and keys on the picture: what each does to the view.

const STEP = 1.25;
const KEY_MOVE_PX = 40;
// Grey values that a drag over one pixel changes.
const TONE_PER_PX = 0.75;

/** Let the stage move, zoom and tone a view; `isToning` says whether a plain drag tones. */
export function listen(stage, view, isToning) {
  const pointers = new Map();

  stage.addEventListener("pointerdown", (event) => {
    if (view.isEmpty || event.target.closest("button, a")) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, placeOf(event));
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = placeOf(event);
    if (pointers.size === 2) pinch(pointers, event.pointerId, now);
    else if (isToning() || event.shiftKey || event.buttons === 2) tone(before, now);
    else view.moveBy(now.x - before.x, now.y - before.y);
    pointers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  stage.addEventListener("contextmenu", (event) => !view.isEmpty && event.preventDefault());
  stage.addEventListener("dblclick", (event) => view.zoomBy(view.zoom < 2 ? 2 : 1 / view.zoom, placeOf(event)));
  stage.addEventListener("wheel", wheel, { passive: false });
  stage.addEventListener("keydown", key);
  view.addEventListener("change", () => stage.classList.toggle("zoomed", view.zoom > 1.001));

  function placeOf(event) {
    const { left, top } = stage.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  function tone(before, now) {
    view.setTone({
      window: view.tone.window + TONE_PER_PX * (now.x - before.x),
      level: view.tone.level - TONE_PER_PX * (now.y - before.y),
    });
  }

  function pinch(held, moved, now) {
    const other = [...held].find(([id]) => id !== moved)[1];
    const before = held.get(moved);
    const grown = distance(now, other) / Math.max(1, distance(before, other));
    view.zoomBy(grown, { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    view.moveBy((now.x - before.x) / 2, (now.y - before.y) / 2);
  }

  // A picture that is shown whole lets the page scroll on.
  function wheel(event) {
    if (view.isEmpty || (event.deltaY > 0 && view.zoom <= 1)) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : 1;
    view.zoomBy(Math.exp(-0.002 * lines * Math.max(-250, Math.min(250, event.deltaY))), placeOf(event));
  }

  function key(event) {
    if (event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      "+": () => view.zoomBy(STEP),
      "=": () => view.zoomBy(STEP),
      "-": () => view.zoomBy(1 / STEP),
      0: () => view.reset(),
      i: () => view.setTone({ inverted: !view.tone.inverted }),
      ArrowLeft: () => view.moveBy(KEY_MOVE_PX, 0),
      ArrowRight: () => view.moveBy(-KEY_MOVE_PX, 0),
      ArrowUp: () => view.moveBy(0, KEY_MOVE_PX),
      ArrowDown: () => view.moveBy(0, -KEY_MOVE_PX),
    };
    const moves = event.key.startsWith("Arrow");
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || view.isEmpty || (moves && view.zoom <= 1)) return;
    event.preventDefault();
    action();
  }
}

function distance(one, other) {
  return Math.hypot(one.x - other.x, one.y - other.y);
}
