//! What several verbs read from the command line: paths of samples, and values with a range.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::domain::{Engine, Sample};
use crate::formats::models_json::SampleFile;
use crate::formats::write::sha256;
use crate::formats::{Problems, duration, engines_toml, samples_csv};

use super::exit::Failure;
use super::inputs::{Gathered, InputErrors};

pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// A percentage.
pub fn percent(text: &str) -> Result<f64, String> {
    ranged(text, 0.0, 100.0, "a percentage from 0 to 100")
}

/// A fraction from 0 to 1: 0.05 is 5 %.
pub fn fraction(text: &str) -> Result<f64, String> {
    ranged(text, 0.0, 1.0, "a fraction from 0 to 1 (0.05 is 5 %)")
}

/// A margin: 0.1 adds 10 %.
pub fn margin(text: &str) -> Result<f64, String> {
    ranged(text, 0.0, 10.0, "a margin from 0 to 10 (0.1 adds 10 %)")
}

/// A confidence between 0.5 and 1, both excluded.
pub fn confidence(text: &str) -> Result<f64, String> {
    ranged(text, 0.5, 1.0, "")
        .ok()
        .filter(|value| *value > 0.5 && *value < 1.0)
        .ok_or_else(|| "not a confidence above 0.5 and below 1 (0.95 keeps deadlines in 95 % of cases)".to_owned())
}

/// A power in watts.
pub fn power(text: &str) -> Result<f64, String> {
    ranged(text, 1.0, 10_000.0, "a power in watts, from 1 to 10000")
}

/// A cap on the power of a cluster, in watts.
pub fn power_cap(text: &str) -> Result<f64, String> {
    ranged(text, 0.0, 1e12, "a power in watts, at most 1e12")
}

fn ranged(text: &str, low: f64, high: f64, what: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value| (low..=high).contains(value)).ok_or_else(|| format!("not {what}"))
}

pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let seconds = duration::parse(text).map_err(|error| error.to_string())?;
    Ok(std::time::Duration::from_secs_f64(seconds.0))
}

pub fn instant(text: &str) -> Result<SystemTime, String> {
    duration::parse_instant(text).map_err(|error| error.to_string())
}

/// All samples of all files with the hash of each; every problem of every file at once. `-` is stdin, once.
pub fn read_samples(paths: &[PathBuf]) -> anyhow::Result<(Vec<Sample>, Vec<SampleFile>)> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err(Failure::usage("stdin (`-`) can be read once only"));
    }
    let mut gathered = Gathered::default();
    let (mut samples, mut files) = (Vec::new(), Vec::new());
    for path in paths {
        let Some(bytes) = gathered.take(read_bytes(path)) else { continue };
        files.push(SampleFile { path: path.display().to_string(), sha256: sha256(&bytes) });
        samples.extend(gathered.take(samples_csv::parse(bytes, path)).unwrap_or_default());
    }
    gathered.finish()?;
    Ok((samples, files))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Problems> {
    let read = || {
        if !is_stdin(path) {
            return std::fs::read(path);
        }
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| Problems::Unreadable { file: path.to_owned(), source })
}

/// The engines file, or the bundled one.
pub fn read_engines(path: Option<&Path>) -> Result<Vec<Engine>, InputErrors> {
    let mut gathered = Gathered::default();
    let engines = match path {
        Some(path) => gathered.take(engines_toml::read(path)),
        None => Some(engines_toml::builtin()),
    };
    gathered.finish()?;
    Ok(engines.unwrap_or_default())
}
