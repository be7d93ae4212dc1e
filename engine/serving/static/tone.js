// Window, level and inversion: from stored grey values to shown ones.

export const WHOLE = Object.freeze({ window: 255, level: 127.5, inverted: false });

/** @returns {Uint8ClampedArray} the shown value of each stored one; `window` values about `level` fill the range. */
export function lookup({ window, level, inverted }) {
  const low = level - window / 2;
  return Uint8ClampedArray.from({ length: 256 }, (_, stored) => {
    const shown = (255 * (stored - low)) / window;
    return inverted ? 255 - shown : shown;
  });
}

/** Write grey values through a table into opaque pixels that can be put on a canvas. */
export function fill(pixels, grey, table) {
  // Red, green, blue and opacity at once, or a dragged slider would lag.
  const whole = new Uint32Array(pixels.buffer);
  const colours = Uint32Array.from(table, (shown) => 0xff000000 | (shown << 16) | (shown << 8) | shown);
  for (let place = 0; place < grey.length; place += 1) whole[place] = colours[grey[place]];
}

/** @returns {Uint8Array} the red channel, which of a grey picture is all there is. */
export function greyOf(pixels) {
  return Uint8Array.from({ length: pixels.length / 4 }, (_, place) => pixels[4 * place]);
}
