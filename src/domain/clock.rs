//! What another SM clock does to a family: factors on the net energy and the busy time of each phase, by measured clock.
//!
//! Prefill is bound by compute and decode mostly by memory, so no one formula fits both (DESIGN.md section 6): there is
//! a table, and between its clocks the logarithms follow a monotone cubic in 1/clock. Beyond the measured clocks nothing
//! is said. Net energy (gross less idle power times time) is what scales: idle power stays, and no coefficient goes
//! negative. SM shares are left out: nobody has measured their energy.

use super::features::Feature;
use super::model::{FamilyModel, Term};
use super::provenance::Provenance;

/// Of the mean running batch: how far beyond the batches measured at a clock its factors are believed.
const BATCH_TOLERANCE: f64 = 1.1;

/// A part of serving a request that the clock acts on in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// What a request costs before its first token: 1, i, i^2.
    Prefill,
    /// What grows with its output.
    Decode,
}

impl Phase {
    pub fn of(feature: &Feature) -> Self {
        match feature {
            Feature::Constant | Feature::Input | Feature::InputSquared => Self::Prefill,
            _ => Self::Decode,
        }
    }
}

/// Factors on the figures of the family's default clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhaseFactors {
    pub net_energy: f64,
    pub time: f64,
    pub provenance: Provenance,
}

/// A measured clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockPoint {
    pub sm_clock_mhz: u32,
    pub prefill: PhaseFactors,
    pub decode: PhaseFactors,
    /// Smallest and largest mean running batch measured at this clock.
    pub batch_size: (f64, f64),
}

impl ClockPoint {
    pub fn factors(&self, phase: Phase) -> &PhaseFactors {
        match phase {
            Phase::Prefill => &self.prefill,
            Phase::Decode => &self.decode,
        }
    }

    /// Whether the clock was measured at this batch, or near it: a larger batch leans on compute more, so factors do not
    /// carry over.
    pub fn covers(&self, batch: f64) -> bool {
        let (low, high) = self.batch_size;
        batch * BATCH_TOLERANCE >= low && batch <= high * BATCH_TOLERANCE
    }
}

/// The measured clocks of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct ClockTable {
    /// The clock of the family's own coefficients, one of the points; `None` if the samples do not state it.
    pub default_mhz: Option<u32>,
    /// Clocks ascending.
    pub points: Vec<ClockPoint>,
}

impl ClockTable {
    /// The measured clock of exactly that frequency.
    pub fn point(&self, sm_clock_mhz: u32) -> Option<&ClockPoint> {
        self.points.iter().find(|point| point.sm_clock_mhz == sm_clock_mhz)
    }

    /// The clocks to offer at a batch: the default, and those measured at or near it.
    pub fn offered(&self, batch: f64) -> impl Iterator<Item = u32> {
        let offered = move |point: &&ClockPoint| Some(point.sm_clock_mhz) == self.default_mhz || point.covers(batch);
        self.points.iter().filter(offered).map(|point| point.sm_clock_mhz)
    }

    /// Factors at a measured clock or between two; `None` beyond them.
    pub fn factors(&self, phase: Phase, sm_clock_mhz: u32) -> Option<PhaseFactors> {
        let points = &self.points;
        let upper = points.partition_point(|point| point.sm_clock_mhz < sm_clock_mhz);
        let above = points.get(upper)?;
        if above.sm_clock_mhz == sm_clock_mhz {
            return Some(*above.factors(phase));
        }
        let below = points.get(upper.checked_sub(1)?)?;
        let slowness = |mhz: u32| -1.0 / f64::from(mhz);
        let clocks: Vec<f64> = points.iter().map(|point| slowness(point.sm_clock_mhz)).collect();
        let at = |pick: fn(&PhaseFactors) -> f64| {
            let logarithms: Vec<f64> = points.iter().map(|point| pick(point.factors(phase)).ln()).collect();
            monotone_cubic(&clocks, &logarithms, upper - 1, slowness(sm_clock_mhz)).exp()
        };
        let provenance = below.factors(phase).provenance.weaker(above.factors(phase).provenance);
        Some(PhaseFactors { net_energy: at(|f| f.net_energy), time: at(|f| f.time), provenance })
    }
}

impl FamilyModel {
    /// The family at another clock; `None` without a table or beyond its clocks.
    pub fn at_clock(&self, sm_clock_mhz: u32) -> Option<Self> {
        let table = self.clocks.as_ref()?;
        let (prefill, decode) =
            (table.factors(Phase::Prefill, sm_clock_mhz)?, table.factors(Phase::Decode, sm_clock_mhz)?);
        let factors = |term: &Term| match Phase::of(&term.feature) {
            Phase::Prefill => prefill,
            Phase::Decode => decode,
        };
        let idle = self.idle_power.value.0;
        // Gross energy = net factor * (E - idle * T) + idle * time factor * T, term by term.
        let mut energy: Vec<Term> =
            self.energy.iter().map(|term| scaled(term, factors(term).net_energy, factors(term).provenance)).collect();
        energy.extend(self.runtime.iter().filter_map(|term| {
            let PhaseFactors { net_energy, time, provenance } = factors(term);
            let factor = idle * (time - net_energy);
            // The range of an estimated coefficient is the energy's alone, as without a clock.
            let central = Term { low: term.value, high: term.value, ..term.clone() };
            (factor != 0.0).then(|| scaled(&central, factor, provenance))
        }));
        let runtime =
            self.runtime.iter().map(|term| scaled(term, factors(term).time, factors(term).provenance)).collect();
        Some(Self { energy, runtime, ..self.clone() })
    }
}

fn scaled(term: &Term, factor: f64, provenance: Provenance) -> Term {
    Term {
        value: term.value * factor,
        low: term.low * factor,
        high: term.high * factor,
        // What the factor may be off by is not known.
        standard_error: None,
        interval: None,
        provenance: term.provenance.weaker(provenance),
        ..term.clone()
    }
}

/// The value at `x` in interval `k` of the cubic through ascending `xs` that is monotone where the points are (Fritsch
/// and Butland 1984, as in SciPy's PchipInterpolator); the crates that interpolate offer lines, Akima and natural splines.
fn monotone_cubic(xs: &[f64], ys: &[f64], k: usize, x: f64) -> f64 {
    let step = |j: usize| xs[j + 1] - xs[j];
    let slope = |j: usize| (ys[j + 1] - ys[j]) / step(j);
    if xs.len() == 2 {
        return ys[0] + slope(0) * (x - xs[0]);
    }
    let last = xs.len() - 1;
    let derivative = |j: usize| {
        if j == 0 {
            return end(step(0), step(1), slope(0), slope(1));
        }
        if j == last {
            return end(step(last - 1), step(last - 2), slope(last - 1), slope(last - 2));
        }
        let (before, after) = (slope(j - 1), slope(j));
        if before * after <= 0.0 {
            return 0.0;
        }
        let (early, late) = (2.0 * step(j) + step(j - 1), step(j) + 2.0 * step(j - 1));
        (early + late) / (early / before + late / after)
    };
    let (h, t) = (step(k), (x - xs[k]) / step(k));
    let (t2, t3) = (t * t, t * t * t);
    (2.0 * t3 - 3.0 * t2 + 1.0) * ys[k]
        + (t3 - 2.0 * t2 + t) * h * derivative(k)
        + (3.0 * t2 - 2.0 * t3) * ys[k + 1]
        + (t3 - t2) * h * derivative(k + 1)
}

/// The slope at an end: of the parabola through three points, kept from overshooting.
fn end(h0: f64, h1: f64, s0: f64, s1: f64) -> f64 {
    let parabola = ((2.0 * h0 + h1) * s0 - h0 * s1) / (h0 + h1);
    if parabola * s0 <= 0.0 {
        0.0
    } else if s0 * s1 <= 0.0 && parabola.abs() > 3.0 * s0.abs() {
        3.0 * s0
    } else {
        parabola
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cubic_is_that_of_scipy() {
        // scipy.interpolate.PchipInterpolator(xs, ys)(x), SciPy 1.17.1.
        let (xs, ys) = ([0.0, 1.0, 2.5, 3.0, 5.0], [1.0, 2.0, 2.2, 1.5, 1.4]);
        let expected = [(0, 0.3, 1.39834017), (1, 1.7, 2.13938121), (2, 2.9, 1.58039322), (3, 4.1, 1.41609703)];
        for (k, x, expected) in expected {
            assert!((monotone_cubic(&xs, &ys, k, x) - expected).abs() < 1e-8, "{x}");
        }
        let (xs, ys) = ([0.0, 1.0, 3.0], [0.0, 3.0, 1.0]);
        assert!((monotone_cubic(&xs, &ys, 0, 0.5) - 2.04166667).abs() < 1e-8);
        assert!((monotone_cubic(&xs, &ys, 1, 2.0) - 2.75).abs() < 1e-8);
        assert_eq!(monotone_cubic(&[0.0, 2.0], &[1.0, 5.0], 0, 0.5), 2.0);
    }

    #[test]
    fn a_table_meets_its_clocks_stays_between_them_and_ends_with_them() {
        let factors = |net_energy, time| PhaseFactors { net_energy, time, provenance: Provenance::Measured };
        let point = |sm_clock_mhz, net_energy, time| ClockPoint {
            sm_clock_mhz,
            prefill: factors(net_energy, time),
            decode: factors(1.0, 1.0),
            batch_size: (4.0, 8.0),
        };
        let table = ClockTable {
            default_mhz: Some(1300),
            points: vec![point(700, 0.6, 1.8), point(1000, 0.7, 1.25), point(1300, 1.0, 1.0)],
        };
        let time = |mhz| table.factors(Phase::Prefill, mhz).map(|factors| factors.time);
        assert_eq!((time(700), time(1000), time(1300)), (Some(1.8), Some(1.25), Some(1.0)));
        assert!(time(850).is_some_and(|time| time > 1.25 && time < 1.8));
        assert_eq!((time(699), time(1301)), (None, None));
        assert!(table.points[0].covers(8.5) && !table.points[0].covers(9.0) && !table.points[0].covers(3.0));
    }
}
