//! Standard errors and 95 % intervals of fitted coefficients.
//!
//! Where no bound binds, the joint fit of energy and time is two weighted least squares (weight 1 / measurement^2), and
//! Student's t applies. Whether a bound binds is seen by solving those two: the same coefficients, or not. Where one
//! does, rows are resampled and refitted. The form and the estimated terms are taken as given. A table over batches has
//! no interval: each of its points is a measurement, with no residual to judge it by. Nor have fits to estimated samples.

use ndarray::{Array1, Array2};

use super::observation::Observation;
use super::phase::{Fitted, PhaseFit, PowerLimits, Remainder, Spec};
use super::quality::any_estimated;
use crate::domain::{Feature, Term};
use crate::stats::{Bootstrap, Summary};

const LEVEL: f64 = 0.95;
/// Percentiles at 2.5 and 97.5 % rest on a dozen replicates each.
const REPLICATES: usize = 500;
/// Coefficients closer than this share are the same solution.
const SAME: f64 = 1e-6;

/// The fit whose coefficients are judged.
#[derive(Clone, Copy, Debug)]
pub struct Fit<'a> {
    pub rows: &'a [&'a Observation],
    pub fit: &'a PhaseFit,
    pub spec: &'a Spec,
    pub limits: PowerLimits,
}

/// A coefficient that residuals can judge.
struct Slot {
    /// Index of its term.
    term: usize,
    feature: Feature,
    /// Per unit of `feature`.
    value: f64,
    /// What 1 of the term is in `value`: a table of one batch counts in multiples of its only point.
    unit: f64,
}

type Uncertainty = (Option<f64>, (f64, f64));

impl Fit<'_> {
    /// States errors and intervals in the fitted terms, which stand first in `energy` and `runtime`.
    pub fn judge(&self, energy: &mut [Term], runtime: &mut [Term], seed: u64) {
        let (of_energy, of_runtime) = (slots(&self.fit.energy), slots(&self.fit.runtime));
        if of_energy.is_empty() || self.rows.len() <= self.spec.size() || any_estimated(self.rows) {
            return;
        }
        let judged = match (
            self.unconstrained(&of_energy, |row| row.energy, |left| left.energy),
            self.unconstrained(&of_runtime, |row| row.runtime, |left| left.runtime),
        ) {
            (Some(energy), Some(runtime)) => Some((energy, runtime)),
            _ => self.resampled(&of_energy, &of_runtime, seed),
        };
        let Some((energies, runtimes)) = judged else { return };
        for (terms, slots, judged) in [(energy, of_energy, energies), (runtime, of_runtime, runtimes)] {
            for (slot, (error, (low, high))) in slots.iter().zip(judged) {
                terms[slot.term].standard_error = error.map(|error| error / slot.unit);
                terms[slot.term].interval = Some((low / slot.unit, high / slot.unit));
            }
        }
    }

    /// By weighted least squares of one target; `None` if its solution is not the fit's.
    fn unconstrained(
        &self,
        slots: &[Slot],
        total: fn(&Observation) -> Option<f64>,
        remainder: fn(&Remainder) -> Option<f64>,
    ) -> Option<Vec<Uncertainty>> {
        let features = self.spec.all_features();
        let (mut design, mut left, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for row in self.rows {
            let (Some(total), Some(remainder)) = (total(row), remainder(&self.fit.remainder(row))) else { continue };
            for feature in &features {
                design.push(feature.expected(&row.tokens, row.batch)?);
            }
            left.push(remainder);
            weights.push(total.powi(-2));
        }
        let x = Array2::from_shape_vec((left.len(), features.len()), design).ok()?;
        let summary = Summary::new(&x, &Array1::from(left), Some(&Array1::from(weights))).ok()?;
        slots
            .iter()
            .map(|slot| {
                let column = features.iter().position(|feature| *feature == slot.feature)?;
                let coefficient = summary.coefficients[column];
                let (low, high) = summary.interval(column, LEVEL)?;
                // What cannot be below 0 has no interval there.
                let judged = (Some(coefficient.standard_error), (low.max(0.0), high));
                ((coefficient.value / slot.value - 1.0).abs() < SAME).then_some(judged)
            })
            .collect()
    }

    /// By refitting resampled rows; a feature that a refit drops has the coefficient 0 there.
    fn resampled(&self, energy: &[Slot], runtime: &[Slot], seed: u64) -> Option<(Vec<Uncertainty>, Vec<Uncertainty>)> {
        let plan = Bootstrap { replicates: REPLICATES, seed, level: LEVEL };
        let intervals = plan.intervals(self.rows.len(), |cases| {
            let rows: Vec<&Observation> = cases.iter().map(|&case| self.rows[case]).collect();
            let fit = PhaseFit::new(&rows, &self.fit.estimated, self.limits, self.spec)?;
            let (of_energy, of_runtime) = (slots(&fit.energy), slots(&fit.runtime));
            let value = |refitted: &[Slot], slot: &Slot| {
                refitted.iter().find(|other| other.feature == slot.feature).map_or(0.0, |other| other.value)
            };
            let energies = energy.iter().map(|slot| value(&of_energy, slot));
            Some(energies.chain(runtime.iter().map(|slot| value(&of_runtime, slot))).collect())
        })?;
        let mut judged = intervals.into_iter().map(|interval| (None, interval));
        Some((judged.by_ref().take(energy.len()).collect(), judged.collect()))
    }
}

fn slots(fitted: &[Fitted]) -> Vec<Slot> {
    fitted
        .iter()
        .enumerate()
        .filter_map(|(term, (feature, value))| match feature {
            Feature::OutputAtBatch(curve) => match curve.points[..] {
                [(_, unit)] => Some(Slot { term, feature: Feature::Output, value: value * unit, unit }),
                _ => None,
            },
            _ => Some(Slot { term, feature: feature.clone(), value: *value, unit: 1.0 }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::features::BatchCurve;
    use crate::domain::{Moments, Provenance};
    use crate::fit::phase::BatchForm;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const LIMITS: PowerLimits = PowerLimits { idle: 50.0, limit: 400.0 };

    /// A grid with relative errors of up to 5 %; `joules` and `seconds` per (request, output token).
    fn grid(joules: (f64, f64), seconds: (f64, f64), seed: u64) -> Vec<Observation> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut noisy = |value: f64| Some(value * (1.0 + random.random_range(-0.05..0.05)));
        let lengths = [8.0, 32.0, 128.0, 512.0];
        lengths
            .iter()
            .flat_map(|&input| lengths.map(|output| Moments::constant(input, output)))
            .map(|tokens| Observation {
                tokens,
                input_assumed: false,
                spread_assumed: false,
                batch: 1.0,
                energy: noisy(joules.0 + joules.1 * tokens.output),
                runtime: noisy(seconds.0 + seconds.1 * tokens.output),
                requests: 1.0,
                idle_power: None,
                data_set: String::new(),
                provenance: Provenance::Measured,
            })
            .collect()
    }

    fn judged(rows: &[Observation], features: Vec<Feature>) -> (Vec<Term>, Vec<Term>) {
        let rows: Vec<&Observation> = rows.iter().collect();
        let spec = Spec { batch: BatchForm::Flat, features };
        let fit = PhaseFit::new(&rows, &[], LIMITS, &spec).unwrap();
        let (mut energy, mut runtime) = fit.terms(Provenance::Measured);
        Fit { rows: &rows, fit: &fit, spec: &spec, limits: LIMITS }.judge(&mut energy, &mut runtime, 1);
        (energy, runtime)
    }

    #[test]
    fn unconstrained_coefficients_have_errors_and_intervals_that_hold_the_truth() {
        let (energy, runtime) = judged(&grid((20.0, 3.0), (0.1, 0.015), 11), vec![Feature::Constant]);
        for (term, truth) in energy.iter().chain(&runtime).zip([3.0, 20.0, 0.015, 0.1]) {
            let ((low, high), error) = (term.interval.unwrap(), term.standard_error.unwrap());
            assert!(low < truth && truth < high, "{term:?}");
            // t of 14 degrees of freedom.
            assert!(((high - term.value) / error - 2.144_786_687_9).abs() < 1e-6);
        }
    }

    #[test]
    fn where_a_bound_binds_rows_are_resampled() {
        // Prompts cost nothing here: most fits put one of their coefficients at a bound.
        let mut resampled = 0;
        for seed in 0..6 {
            let rows = grid((20.0, 3.0), (0.1, 0.015), seed);
            let (energy, _) = judged(&rows, vec![Feature::Constant, Feature::Input]);
            for term in energy.iter().filter(|term| term.standard_error.is_none()) {
                let (low, high) = term.interval.unwrap();
                match term.feature {
                    Feature::Output => assert!((2.8..3.0).contains(&low) && (3.0..3.2).contains(&high), "{term:?}"),
                    Feature::Input => assert!(low == 0.0 && high > 0.0 && high < 0.02, "{term:?}"),
                    _ => assert!(low < 21.5 && high > 18.5 && high - low < 4.0, "{term:?}"),
                }
                resampled += 1;
            }
        }
        assert!(resampled > 0);
    }

    #[test]
    fn a_table_of_one_batch_is_judged_in_multiples_and_one_of_several_is_not() {
        let mut rows = grid((20.0, 3.0), (0.1, 0.015), 11);
        let at_batch_1 = judged(&rows, vec![Feature::Constant]).0;
        rows.iter_mut().for_each(|row| row.batch = 8.0);
        let (energy, _) = judged(&rows, vec![Feature::Constant]);
        let (per_token, table) = (at_batch_1[0].clone(), energy[0].clone());
        assert_eq!((table.value, table.feature.name()), (1.0, "o(b)"));
        let (low, _) = table.interval.unwrap();
        assert!((low / (per_token.interval.unwrap().0 / per_token.value) - 1.0).abs() < 1e-9);
        let several = Feature::OutputAtBatch(BatchCurve { points: vec![(1.0, 2.0), (2.0, 1.0)] });
        assert!(slots(&[(several, 1.0)]).is_empty());
    }
}
