// The one scale that a reading is shown on: calibrated where the model is, its own otherwise.

/**
 * Put all of a finding's values on the shown scale.
 *
 * The server gives probability, threshold and members on the model's own scale and the calibrated probability
 * beside them. Calibration divides a finding's logits by one temperature, which these two tell.
 *
 * @param {object} found as the server gives it.
 * @returns {object} the same, with `own` as the probability before calibration.
 */
export function shown(found) {
  const own = found.probability;
  if (found.calibrated === null) return { ...found, own };
  const temperature = logit(own) / logit(found.calibrated);
  const isTold = Number.isFinite(temperature) && temperature > 0;
  const calibrate = (share) => (isTold ? sigmoid(logit(share) / temperature) : share);
  return {
    ...found,
    own,
    probability: found.calibrated,
    threshold: found.threshold === null ? null : calibrate(found.threshold),
    members: found.members.map(calibrate),
  };
}

function logit(share) {
  return Math.log(share) - Math.log1p(-share);
}

function sigmoid(value) {
  return 1 / (1 + Math.exp(-value));
}
