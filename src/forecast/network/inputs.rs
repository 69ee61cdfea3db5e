//! What a network sees of a history: scaled differences from now, finer the younger they are.
//!
//! Power enters only as differences and in multiples of what the kind usually changes by, so that a network knows no
//! device's level: one that was given it took the workloads it was trained on for all there are. Jumps are a thousand times
//! larger than noise, so both the inverse hyperbolic sine and the plain difference are given. The older fifty seconds come
//! as means of five, which trains three times as fast. Utilisation, memory, clock and temperature come along where they are
//! asked for, each with a mark of whether it is known: a figure that is missing is no figure of 0.

use crate::forecast::{Figure, HISTORY, History};

/// Seconds given one by one.
const RECENT: usize = 10;
/// Seconds in each mean before those.
const MERGED: usize = 5;
/// Steps of a sequence.
pub const STEPS: usize = RECENT + (HISTORY - RECENT) / MERGED;
/// Numbers of power in each step.
pub const POWER_INPUTS: usize = 3;
/// Numbers of each other figure in each step: how large, and whether that is known.
pub const FIGURE_INPUTS: usize = 2;
/// Multiples of the scale that plain differences are counted in.
const JUMP: f64 = 20.0;

/// A figure beside power that a network is given, and what brings it to about -1..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extra {
    pub figure: Figure,
    pub mean: f64,
    /// Above 0.
    pub deviation: f64,
}

/// The sequence of a history, step by step; `scale_w` is what power usually changes by, above 0.
pub fn sequence(history: &History<'_>, scale_w: f64, extras: &[Extra]) -> Vec<f32> {
    let extras: Vec<(Extra, Vec<Option<f64>>)> =
        extras.iter().map(|extra| (*extra, merged(history.figures(extra.figure)))).collect();
    let last = history.last();
    let mut before = None;
    let mut values = Vec::with_capacity(STEPS * (POWER_INPUTS + FIGURE_INPUTS * extras.len()));
    for (at, power) in merged(history.powers().map(Some)).into_iter().flatten().enumerate() {
        let from_last = (power - last) / scale_w;
        let change = (power - before.replace(power).unwrap_or(power)) / scale_w;
        values.extend([from_last.asinh() as f32, change.asinh() as f32, (from_last / JUMP) as f32]);
        for (Extra { mean, deviation, .. }, figures) in &extras {
            let known = figures[at].map(|value| ((value - mean) / deviation) as f32);
            values.extend([known.unwrap_or(0.0), f32::from(u8::from(known.is_some()))]);
        }
    }
    values
}

/// Brings `HISTORY` values to `STEPS`: means of what is known of the older ones.
fn merged(values: impl Iterator<Item = Option<f64>>) -> Vec<Option<f64>> {
    let values: Vec<Option<f64>> = values.collect();
    let (older, recent) = values.split_at(HISTORY - RECENT);
    let mean = |chunk: &[Option<f64>]| {
        let known: Vec<f64> = chunk.iter().flatten().copied().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    older.chunks(MERGED).map(mean).chain(recent.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Scope;
    use crate::forecast::{Kind, Step};

    #[test]
    fn a_figure_is_scaled_where_it_is_known_and_marked_where_not() {
        let kind = Kind { scope: Scope::Device, device: None };
        let step = |at: usize| {
            let mut step = Step::measured(100.0 + at as f64);
            step.figures[Figure::Utilization as usize] =
                (at >= 3).then_some(if at < HISTORY - 1 { 30.0 } else { 90.0 });
            step
        };
        let steps: Vec<Step> = (0..HISTORY).map(step).collect();
        let history = History::new(&kind, &steps).unwrap();
        let power = sequence(&history, 2.0, &[]);
        assert_eq!(power.len(), STEPS * POWER_INPUTS);
        let extra = Extra { figure: Figure::Utilization, mean: 50.0, deviation: 20.0 };
        let all = sequence(&history, 2.0, &[extra, Extra { figure: Figure::Temperature, ..extra }]);
        let rows: Vec<&[f32]> = all.chunks(POWER_INPUTS + 2 * FIGURE_INPUTS).collect();
        assert!(rows.iter().zip(power.chunks(POWER_INPUTS)).all(|(all, power)| all[..POWER_INPUTS] == *power));
        // The first of the means knows two of its five seconds; of temperature nothing is known.
        assert_eq!(
            (rows[0][3..].to_vec(), rows[STEPS - 1][3..].to_vec()),
            (vec![-1.0, 1.0, 0.0, 0.0], vec![2.0, 1.0, 0.0, 0.0])
        );
    }
}
