//! What a network sees of a history: scaled differences from now, finer the younger they are.
//!
//! Power enters only as differences and in multiples of what the kind usually changes by, so that a network knows no
//! device's level: one that was given it took the workloads it was trained on for all there are. Jumps are a thousand times
//! larger than noise, so both the inverse hyperbolic sine and the plain difference are given. The older fifty seconds come
//! as means of five, which trains three times as fast. Utilisation, memory, clock and temperature are left out: none of the
//! traces at hand has more than utilisation.

use crate::forecast::{HISTORY, History};

/// Seconds given one by one.
const RECENT: usize = 10;
/// Seconds in each mean before those.
const MERGED: usize = 5;
/// Steps of a sequence.
pub const STEPS: usize = RECENT + (HISTORY - RECENT) / MERGED;
/// Numbers in each step.
pub const INPUTS: usize = 3;
/// Multiples of the scale that plain differences are counted in.
const JUMP: f64 = 20.0;

/// The sequence of a history, step by step; `scale_w` is what power usually changes by, above 0.
pub fn sequence(history: &History<'_>, scale_w: f64) -> Vec<f32> {
    let powers: Vec<f64> = history.powers().collect();
    let (older, recent) = powers.split_at(HISTORY - RECENT);
    let means = older.chunks(MERGED).map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64);
    let last = history.last();
    let mut before = None;
    let mut values = Vec::with_capacity(STEPS * INPUTS);
    for power in means.chain(recent.iter().copied()) {
        let from_last = (power - last) / scale_w;
        let change = (power - before.replace(power).unwrap_or(power)) / scale_w;
        values.extend([from_last.asinh() as f32, change.asinh() as f32, (from_last / JUMP) as f32]);
    }
    values
}
