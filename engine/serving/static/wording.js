// How numbers and names are said; no element is touched here.

/** @param {string} finding as the data set spells it. */
export function findingName(finding) {
  return finding.replaceAll("_", " ");
}

/** A share of one as per cent, with the digits that tell small ones apart. */
export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const hundred = 100 * share;
  if (hundred > 0 && hundred < 0.1) return "< 0.1 %";
  return `${hundred.toFixed(hundred < 99.95 ? 1 : 0)} %`;
}

/** An estimate with its interval: `0.842 (0.821 to 0.860)`. */
export function interval(estimate) {
  if (!estimate || estimate.value === null) return "not defined";
  const value = estimate.value.toFixed(3);
  if (estimate.low === null || estimate.high === null) return value;
  return `${value} (${estimate.low.toFixed(3)} to ${estimate.high.toFixed(3)})`;
}

/** `a`, `a and b`, `a, b and c`. */
export function listed(names) {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** `1 image`, `1,234 images`. */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}
