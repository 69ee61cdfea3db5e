//! How far a claim may lie from the recomputed figure, and why that far.
//!
//! Slacks grow with the *recomputed* value, never with the claim, so that no claim excuses itself. Not-a-number is close
//! to nothing.

/// Fraction of the figure: a thousand times the rounding of a sum over ten million requests in any order, and a
/// ten-thousandth of the 1 % at which a plan would mislead.
const RELATIVE: f64 = 1e-6;
/// Times may be written to the millisecond.
const SECONDS: f64 = 1e-3;
/// Energies may be written to the millijoule.
const JOULES: f64 = 1e-3;
/// The gap is written in full beside the two numbers it is made of: only rounding of one division is allowed.
pub(super) const GAP: f64 = 1e-9;
/// Percent points: rounding of a mean, far below what one request among ten million can move it (1e-7 per point).
pub(super) const ACCURACY: f64 = 1e-9;
/// Latencies and token limits are copied, not computed; a millisecond would be 3 % of a token's time.
const COPIED: f64 = 1e-9;

pub(super) fn seconds(reference: f64) -> f64 {
    SECONDS + RELATIVE * reference.abs()
}

pub(super) fn joules(reference: f64) -> f64 {
    JOULES + RELATIVE * reference.abs()
}

/// Of `watts` times a difference of two times, each rounded.
pub(super) fn joules_over(reference: f64, watts: f64) -> f64 {
    joules(reference) + watts.abs() * 2.0 * SECONDS
}

/// Of figures written in full.
pub(super) fn relative(reference: f64) -> f64 {
    RELATIVE * reference.abs()
}

/// Of a sum of powers against a cap: rounding of the sum.
pub(super) fn watts(reference: f64) -> f64 {
    1e-3 + RELATIVE * reference.abs()
}

/// Of coefficients, which come from plan.json in full. `gross` is the size of the terms that were added up: a net
/// coefficient near zero carries their rounding, not its own.
pub(super) fn coefficient(reference: f64, gross: f64) -> f64 {
    RELATIVE * reference.abs() + COPIED * gross.abs()
}

/// Whether `claimed` may stand for `recomputed`.
pub(super) fn close(claimed: f64, recomputed: f64, slack: f64) -> bool {
    claimed == recomputed || (slack.is_finite() && (claimed - recomputed).abs() <= slack)
}

/// Whether `value` keeps `limit` but for `slack`; never true of not-a-number.
pub(super) fn at_most(value: f64, limit: f64, slack: f64) -> bool {
    value <= limit + slack
}

/// Whether `value` exceeds a copied `limit`; true for not-a-number.
pub(super) fn exceeds_copied(value: f64, limit: f64) -> bool {
    !at_most(value, limit, COPIED * limit.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_percent_is_never_close_and_rounding_always_is() {
        for value in [1.0, 3600.0, 1e9] {
            assert!(!close(value * 1.01, value, seconds(value)));
            assert!(!close(value * 1.01, value, joules(value)));
            assert!(close((value * 1000.0_f64).round() / 1000.0 + 4e-4, value, seconds(value)));
        }
        assert!(!close(f64::NAN, 1.0, seconds(1.0)));
        assert!(!close(f64::INFINITY, 1.0, seconds(1.0)));
        assert!(!close(1.0, f64::INFINITY, seconds(f64::INFINITY)));
        assert!(close(f64::INFINITY, f64::INFINITY, 0.0));
        assert!(exceeds_copied(f64::NAN, 1.0));
    }
}
