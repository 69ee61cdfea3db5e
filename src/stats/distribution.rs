//! Tails and quantiles of Student's t and of F, and quantiles of the normal distribution, from the incomplete beta function of statrs.
//!
//! The tails are written with the beta function itself: P(F > f) = I_x(d2/2, d1/2) with x = d2 / (d1 f + d2) keeps its
//! digits where 1 - cdf has none left.

use statrs::distribution::{Continuous, ContinuousCDF, Normal, StudentsT};
use statrs::function::beta::checked_beta_reg;

/// Each doubles the digits; there are five to begin with.
const NEWTON_STEPS: usize = 2;

/// P(F > f) with (numerator, denominator) degrees of freedom; `None` if `f` is negative or no number, or a degree 0.
pub fn f_tail(f: f64, numerator: usize, denominator: usize) -> Option<f64> {
    let (d1, d2) = (numerator as f64, denominator as f64);
    if f.is_nan() || f < 0.0 {
        return None;
    }
    checked_beta_reg(d2 / 2.0, d1 / 2.0, d2 / (d1 * f + d2)).ok()
}

/// P(|T| > |t|): two-sided.
pub fn t_two_sided(t: f64, freedom: usize) -> Option<f64> {
    f_tail(t * t, 1, freedom)
}

/// The t that |T| stays below with probability `level` (0..1): 2.23 for 0.95 and 10 degrees of freedom.
pub fn t_two_sided_quantile(level: f64, freedom: usize) -> Option<f64> {
    if !(0.0..1.0).contains(&level) {
        return None;
    }
    let distribution = StudentsT::new(0.0, 1.0, freedom as f64).ok()?;
    let mut t = distribution.inverse_cdf(0.5 + level / 2.0);
    // statrs's inverse keeps five digits at 100,000 degrees of freedom: Newton's method on the tail restores them.
    for _ in 0..NEWTON_STEPS {
        t += (t_two_sided(t, freedom)? - (1.0 - level)) / (2.0 * distribution.pdf(t));
    }
    Some(t)
}

/// The z that a standard normal variable stays below with probability `level`: 1.64 for 0.95; infinite at 0 and 1.
pub fn normal_quantile(level: f64) -> f64 {
    if !(0.0..=1.0).contains(&level) {
        return f64::NAN;
    }
    Normal::standard().inverse_cdf(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Closed forms: T with 1 degree of freedom is Cauchy, F with 2 numerator degrees has an elementary tail.
    #[test]
    fn tails_meet_their_closed_forms_far_out() {
        for t in [0.0, 0.5, 3.0, 1e3, 1e8] {
            let cauchy = if t == 0.0 { 1.0 } else { std::f64::consts::FRAC_2_PI * (1.0f64 / t).atan() };
            assert!((t_two_sided(t, 1).unwrap() / cauchy - 1.0).abs() < 1e-12, "{t}");
        }
        for f in [0.1, 4.0, 500.0, 1e6] {
            let exact = (1.0 + 2.0 * f / 40.0f64).powi(-20);
            assert!((f_tail(f, 2, 40).unwrap() / exact - 1.0).abs() < 1e-11, "{f}");
        }
    }

    /// The quantile inverts the tail, at one degree of freedom as at thousands.
    #[test]
    fn quantiles_invert_the_tails() {
        for freedom in [1, 2, 3, 5, 10, 77, 1000, 100_000] {
            for level in [0.5, 0.9, 0.95, 0.999] {
                let t = t_two_sided_quantile(level, freedom).unwrap();
                let tail = t_two_sided(t, freedom).unwrap();
                assert!((tail / (1.0 - level) - 1.0).abs() < 1e-9, "{freedom} {level}: {tail}");
            }
        }
    }

    #[test]
    fn normal_quantiles_are_those_of_tables() {
        for (level, z) in [(0.5, 0.0), (0.95, 1.644_853_626_951_472), (0.025, -1.959_963_984_540_054)] {
            assert!((normal_quantile(level) - z).abs() < 1e-9, "{level}");
        }
        assert!(normal_quantile(1.5).is_nan());
    }

    #[test]
    fn what_is_undefined_is_absent() {
        assert_eq!((f_tail(-1.0, 1, 5), f_tail(f64::NAN, 1, 5), f_tail(1.0, 1, 0)), (None, None, None));
        assert_eq!((t_two_sided_quantile(1.0, 5), t_two_sided_quantile(0.9, 0)), (None, None));
        assert_eq!(f_tail(f64::INFINITY, 2, 5), Some(0.0));
    }
}
