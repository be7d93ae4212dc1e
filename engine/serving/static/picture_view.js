// The picture on its canvas: place and scale, tone, heat map and boxes. What is shown is decided elsewhere.

import { WHOLE, fill, greyOf, lookup } from "./tone.js";

const LARGEST_ZOOM = 16;
const MARGIN_PX = 10;
const CAPTION_PX = 12;

/** Draws one picture; announces a changed view as `change`. Lengths are in CSS pixels. */
export class PictureView extends EventTarget {
  #canvas;
  #context;
  #toned = document.createElement("canvas");
  #grey = null;
  #overlay = null;
  #boxes = [];
  #size = { width: 1, height: 1 };
  #centre = { x: 0.5, y: 0.5 };
  #awaited = false;

  zoom = 1;
  tone = { ...WHOLE };
  opacity = 0.6;

  constructor(canvas) {
    super();
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(([entry]) => this.#resize(entry.contentRect)).observe(canvas.parentElement);
  }

  get isEmpty() {
    return this.#grey === null;
  }

  /** Screen pixels per pixel of the picture. */
  get scale() {
    return this.isEmpty ? 1 : this.zoom * this.#fit();
  }

  /** @param {ImageBitmap | null} bitmap in grey. */
  show(bitmap) {
    this.#overlay = null;
    this.#boxes = [];
    this.#grey = null;
    if (bitmap) {
      this.#toned.width = bitmap.width;
      this.#toned.height = bitmap.height;
      const context = this.#toned.getContext("2d", { willReadFrequently: true });
      context.drawImage(bitmap, 0, 0);
      this.#grey = greyOf(context.getImageData(0, 0, bitmap.width, bitmap.height).data);
    }
    this.reset();
  }

  /** @param {ImageBitmap | null} bitmap; @param {object[]} boxes with sides in shares of the picture's. */
  lay(bitmap, boxes) {
    this.#overlay = bitmap;
    this.#boxes = boxes;
    this.#draw();
  }

  setOpacity(share) {
    this.opacity = share;
    this.#draw();
  }

  setTone(changes) {
    const tone = { ...this.tone, ...changes };
    tone.window = Math.min(510, Math.max(1, tone.window));
    tone.level = Math.min(255, Math.max(0, tone.level));
    this.tone = tone;
    this.#applyTone();
    this.#changed();
  }

  /** Zoom, keeping the point of the canvas where it is. */
  zoomBy(factor, point = { x: this.#size.width / 2, y: this.#size.height / 2 }) {
    if (this.isEmpty) return;
    const before = this.#placed();
    const held = { x: (point.x - before.x) / before.width, y: (point.y - before.y) / before.height };
    this.zoom = Math.min(LARGEST_ZOOM, Math.max(1, this.zoom * factor));
    const after = this.#placed();
    this.#centre.x = held.x + (this.#size.width / 2 - point.x) / after.width;
    this.#centre.y = held.y + (this.#size.height / 2 - point.y) / after.height;
    this.#changed();
  }

  moveBy(x, y) {
    if (this.isEmpty) return;
    const { width, height } = this.#placed();
    this.#centre.x -= x / width;
    this.#centre.y -= y / height;
    this.#changed();
  }

  reset() {
    this.zoom = 1;
    this.tone = { ...WHOLE };
    this.#applyTone();
    this.#changed();
  }

  #applyTone() {
    if (this.isEmpty) return;
    const shown = new ImageData(this.#toned.width, this.#toned.height);
    fill(shown.data, this.#grey, lookup(this.tone));
    this.#toned.getContext("2d").putImageData(shown, 0, 0);
  }

  #resize({ width, height }) {
    this.#size = { width, height };
    const density = window.devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * density);
    this.#canvas.height = Math.round(height * density);
    this.#paint();
    this.dispatchEvent(new Event("change"));
  }

  #fit() {
    const { width, height } = this.#size;
    return Math.max(0.01, Math.min((width - 2 * MARGIN_PX) / this.#toned.width, (height - 2 * MARGIN_PX) / this.#toned.height));
  }

  #placed() {
    const width = this.#toned.width * this.scale;
    const height = this.#toned.height * this.scale;
    return {
      x: this.#size.width / 2 - this.#centre.x * width,
      y: this.#size.height / 2 - this.#centre.y * height,
      width,
      height,
    };
  }

  // A picture that is larger than the stage covers it, a smaller one stays in its middle.
  #keepInside() {
    if (this.isEmpty) return;
    const { width, height } = this.#placed();
    const within = (centre, side, room) => {
      const half = Math.min(0.5, room / 2 / side);
      return Math.min(1 - half, Math.max(half, centre));
    };
    this.#centre = {
      x: within(this.#centre.x, width, this.#size.width),
      y: within(this.#centre.y, height, this.#size.height),
    };
  }

  #changed() {
    this.#keepInside();
    this.#draw();
    this.dispatchEvent(new Event("change"));
  }

  #draw() {
    if (this.#awaited) return;
    this.#awaited = true;
    requestAnimationFrame(() => {
      this.#awaited = false;
      this.#paint();
    });
  }

  #paint() {
    const context = this.#context;
    const density = window.devicePixelRatio || 1;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, this.#size.width, this.#size.height);
    if (this.isEmpty) return;
    this.#keepInside();
    const { x, y, width, height } = this.#placed();
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#toned, x, y, width, height);
    if (this.#overlay) {
      context.globalAlpha = this.opacity;
      context.drawImage(this.#overlay, x, y, width, height);
      context.globalAlpha = 1;
    }
    for (const box of this.#boxes) this.#outline(box, { x, y, width, height });
  }

  #outline(box, placed) {
    const context = this.#context;
    const left = placed.x + box.x * placed.width;
    const top = placed.y + box.y * placed.height;
    const sides = [left, top, box.width * placed.width, box.height * placed.height];
    for (const [colour, line] of [["rgb(0 0 0 / 0.65)", 4], ["#ffffff", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.strokeRect(...sides);
    }
    context.font = `${CAPTION_PX}px system-ui, sans-serif`;
    context.lineWidth = 3;
    context.strokeStyle = "rgb(0 0 0 / 0.75)";
    context.fillStyle = "#ffffff";
    const caption = ["Box of the data set", left, top > CAPTION_PX + 8 ? top - 6 : top + sides[3] + CAPTION_PX + 4];
    context.strokeText(...caption);
    context.fillText(...caption);
  }
}
