//! Where reference data lie and how they are read: the folder that `JOULEPLAN_REFERENCE_DATA` names. Tests that need it
//! skip loudly without it.
#![allow(dead_code, reason = "each test uses its part of what is shared")]

use std::path::{Path, PathBuf};

use jouleplan::domain::Sample;
use jouleplan::fit::{Context, FitReport, Settings, fit};
use jouleplan::formats::{csv_map, data_sets_toml, devices_toml, engines_toml};

pub fn reference(path: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("JOULEPLAN_REFERENCE_DATA") else {
        eprintln!("SKIPPED: JOULEPLAN_REFERENCE_DATA is not set, so {path} was not read");
        return None;
    };
    Some(Path::new(&root).join(path))
}

/// Fitted with the bundled tables.
pub fn fitted(samples: &[Sample], settings: Settings) -> FitReport {
    let (engines, devices, data_sets) = (engines_toml::builtin(), devices_toml::builtin(), data_sets_toml::builtin());
    fit(
        samples,
        &Context { engines: &engines, devices: &devices, data_sets: &data_sets, assumed_power: &[] },
        &settings,
    )
}

/// The 9 x 9 grid of arXiv 2407.04014, one trial a cell, warm-up suspects marked.
pub fn grid(path: &Path) -> Vec<Sample> {
    let map = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/maps/wilkins_grid.toml");
    csv_map::import(&map, &[path.to_owned()]).expect("the grid is readable")
}
