//! Phases of a command, by its own account of when each began: what each meter saw during each of them.

use std::collections::BTreeMap;
use std::fs;
use std::time::UNIX_EPOCH;

use super::Session;
use crate::formats::meter_json::PhaseJson;
use crate::units::Seconds;

/// No command has more phases; a longer file is a mistake.
const MOST: usize = 1_000;

impl Session {
    /// The phases that lie within the command, once it ended.
    pub(super) fn phases(&self) -> Vec<PhaseJson> {
        let (Some(begun), Some(ended), Some(path)) = (self.begun, self.ended, &self.marks) else { return Vec::new() };
        let text = fs::read_to_string(path).unwrap_or_default();
        let since = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let instant = |line: &str| {
            let (name, at) = line.rsplit_once(' ')?;
            let at = begun.at.0 + at.trim().parse::<f64>().ok()? - since;
            (at >= begun.at.0 && at <= ended.at.0).then(|| (name.trim().to_owned(), at))
        };
        let marks: Vec<(String, f64)> = text.lines().take(MOST).filter_map(instant).collect();
        let ends = marks.iter().skip(1).map(|(_, at)| *at).chain([ended.at.0]);
        marks.iter().zip(ends).map(|((name, from), to)| self.phase(name, *from, to.max(*from))).collect()
    }

    fn phase(&self, name: &str, from: f64, to: f64) -> PhaseJson {
        let energy = |tracks: &[super::Track]| -> BTreeMap<String, f64> {
            let known = tracks.iter().filter_map(|track| {
                let energy = track.series.energy(Seconds(from), Seconds(to)).ok()?;
                Some((track.identity.name.clone(), energy.joules.0))
            });
            known.collect()
        };
        let start = self.begun.map_or(0.0, |begun| begun.at.0);
        PhaseJson {
            name: name.to_owned(),
            from_s: from - start,
            seconds: to - from,
            energy_j: self.sampler.with(energy),
        }
    }
}
