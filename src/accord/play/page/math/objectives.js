// Each objective's loss of one row and its slopes: the mathematics of accord/objectives, once more, for the page.
//
// w chosen, l rejected. `w` and `l` are { policy, reference, count }: log-probs in nats, summed over the answer's
// tokens, and how many tokens there are. A pair's loss returns [loss, d loss / d policy_w, d loss / d policy_l].
// tests/play/test_math.py holds every function to the Python one, value and gradient.

import { CERTAIN, logOdds, sigmoid, softplus } from './numbers.js';

/** h = (log π_w - log ref_w) - (log π_l - log ref_l), in nats. */
export function margin(w, l) {
  return w.policy - w.reference - (l.policy - l.reference);
}

/** -log σ(βh). Rafailov et al. 2023, arXiv:2305.18290, Eq. 7. */
export function dpo(w, l, { beta }) {
  const x = beta * margin(w, l);
  const slope = -beta * sigmoid(-x);
  return [softplus(-x), slope, -slope];
}

/** -log σ(β (h - λ max(0, -r_w))); in the kink at r_w = 0 the slope is DPO's. Pal et al. 2024, arXiv:2402.13228, Eq. 3. */
export function dpop(w, l, { beta, penalty }) {
  const fallen = Math.min(0, w.policy - w.reference);
  const x = beta * (margin(w, l) + penalty * fallen);
  const slope = -beta * sigmoid(-x);
  return [softplus(-x), slope * (1 + (fallen < 0 ? penalty : 0)), -slope];
}

/** -log σ(β (r_w / n_w - r_l / n_l)), log-ratios as token means. Lambert et al. 2024, arXiv:2411.15124, §5. */
export function dpo_norm(w, l, { beta }) {
  const x = beta * ((w.policy - w.reference) / w.count - (l.policy - l.reference) / l.count);
  const slope = -beta * sigmoid(-x);
  return [softplus(-x), slope / w.count, -slope / l.count];
}

/** (h - 1/(2β))², h of sums or of token means. Azar et al. 2023, arXiv:2310.12036, Eq. 17. */
export function ipo(w, l, { beta, normalize }) {
  const byW = normalize === 'token_mean' ? w.count : 1;
  const byL = normalize === 'token_mean' ? l.count : 1;
  const off = (w.policy - w.reference) / byW - (l.policy - l.reference) / byL - 0.5 / beta;
  return [off * off, (2 * off) / byW, (-2 * off) / byL];
}

/** -log σ(β (M_w - M_l) - γ), M the mean log-prob a token. Meng et al. 2024, arXiv:2405.14734, Eq. 6. */
export function simpo(w, l, { beta, gammaRatio }) {
  const x = beta * (w.policy / w.count - l.policy / l.count - gammaRatio);
  const slope = -beta * sigmoid(-x);
  return [softplus(-x), slope / w.count, -slope / l.count];
}

/** -M_w - λ log σ(logodds_w - logodds_l). Hong et al. 2024, arXiv:2403.07691, Eqs. 6 and 7. */
export function orpo(w, l, { weight }) {
  const meanW = w.policy / w.count;
  const meanL = l.policy / l.count;
  const x = logOdds(meanW) - logOdds(meanL);
  const pull = weight * sigmoid(-x);
  return [-meanW + weight * softplus(-x), (-1 - pull * oddsSlope(meanW)) / w.count, (pull * oddsSlope(meanL)) / l.count];
}

/** d logodds / d mean = 1 / (1 - exp mean); none where the mean counts as certain. */
function oddsSlope(mean) {
  return mean > CERTAIN ? 0 : -1 / Math.expm1(mean);
}

/**
 * λ_D (1 - σ(β (r - z0))) if desirable, λ_U (1 - σ(β (z0 - r))) if not; r the log-ratio of one answer.
 * Returns [loss, d loss / d policy]. Ethayarajh et al. 2024, arXiv:2402.01306, Eq. 8.
 */
export function kto(y, desirable, { beta, lambdaD, lambdaU, z0 }) {
  const sign = desirable ? 1 : -1;
  const weight = desirable ? lambdaD : lambdaU;
  const x = sign * beta * (y.policy - y.reference - z0);
  return [weight * sigmoid(-x), -weight * sign * beta * sigmoid(x) * sigmoid(-x)];
}
