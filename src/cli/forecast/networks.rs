//! What the verbs of `forecast` share about networks, and what remains of it where they are not built in.

#[cfg(feature = "networks")]
use std::path::{Path, PathBuf};

#[cfg(feature = "networks")]
use super::super::exit::Failure;
use super::super::output::Output;
use super::super::progress::Line;
use crate::forecast::{Forecaster, Window, baselines};
#[cfg(feature = "networks")]
use crate::forecast::{
    Kind,
    network::{self, Family, Inputs, Progress, Training},
};
#[cfg(feature = "networks")]
use crate::formats::Problems;

/// Which networks are compared.
#[cfg(feature = "networks")]
#[derive(Debug, clap::Args)]
pub struct Networks {
    /// Networks to train on each fold: gru, lstm, transformer, s4d, spiking; `selected` may use the first
    #[arg(long, value_delimiter = ',', default_value = "gru", value_parser = family)]
    networks: Vec<Family>,
    /// Train no networks, which takes seconds instead of minutes
    #[arg(long, conflicts_with = "networks")]
    no_networks: bool,
    /// Where the weights of networks and the order of their windows come from
    #[arg(long, default_value_t = Training::default().seed)]
    seed: u64,
    #[command(flatten)]
    given: Given,
}

/// What networks are given.
#[cfg(feature = "networks")]
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Given {
    /// What networks are given: power, or all that the traces hold of power, utilisation, memory, clock and temperature
    #[arg(long, value_enum, default_value = "power")]
    inputs: InputsName,
}

#[cfg(feature = "networks")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum InputsName {
    Power,
    All,
}

#[cfg(feature = "networks")]
impl Given {
    pub fn inputs(self) -> Inputs {
        match self.inputs {
            InputsName::Power => Inputs::Power,
            InputsName::All => Inputs::All,
        }
    }
}

#[cfg(feature = "networks")]
impl Networks {
    /// All forecasters, in the order of a table.
    pub fn forecasters(&self, windows: &[Window<'_>], tell: &Teller) -> anyhow::Result<Vec<Box<dyn Forecaster>>> {
        let mut forecasters = baselines(windows);
        if self.no_networks {
            return Ok(forecasters);
        }
        let training = Training { seed: self.seed, inputs: self.given.inputs(), ..Training::default() };
        for (at, family) in self.networks.iter().enumerate() {
            let tell = |kind: &Kind, progress: Progress| tell.progress(*family, kind, progress);
            let studied = network::train(*family, windows, &training, &tell)?;
            if at == 0 {
                // The baselines' own knows no network.
                forecasters.pop();
                forecasters.push(Box::new(studied.selected));
            }
            forecasters.insert(forecasters.len() - 1, Box::new(studied.network));
        }
        Ok(forecasters)
    }
}

/// The name of a family.
#[cfg(feature = "networks")]
pub fn family(text: &str) -> Result<Family, String> {
    let names = || Family::ALL.map(Family::name).join(", ");
    Family::ALL.into_iter().find(|family| family.name() == text).ok_or_else(|| format!("one of {}", names()))
}

/// A forecaster that was trained before.
#[cfg(feature = "networks")]
#[derive(Debug, clap::Args)]
pub struct FromFile {
    /// What `forecast train` has written [default: one learned from traces just now]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["learn", "method"])]
    forecaster: Option<PathBuf>,
}

#[cfg(feature = "networks")]
impl FromFile {
    pub fn read(&self) -> anyhow::Result<Option<Box<dyn Forecaster>>> {
        self.forecaster.as_ref().map(|path| Ok(read(path)?.0)).transpose()
    }
}

/// The forecaster of a file, and its bytes.
#[cfg(feature = "networks")]
pub fn read(path: &Path) -> anyhow::Result<(Box<dyn Forecaster>, Vec<u8>)> {
    let bytes = std::fs::read(path).map_err(|source| Problems::Unreadable { file: path.to_owned(), source })?;
    let (trained, _) =
        network::file::from_bytes(&bytes).map_err(|error| Failure::bad_data(format!("{}: {error}", path.display())))?;
    Ok((Box::new(trained), bytes))
}

/// Says on a terminal how far training is.
pub struct Teller {
    #[cfg_attr(not(feature = "networks"), allow(dead_code))]
    line: std::sync::Arc<Line>,
    #[cfg_attr(not(feature = "networks"), allow(dead_code))]
    place: String,
}

impl Teller {
    pub fn new(output: &Output) -> Self {
        Self { line: std::sync::Arc::new(Line::new(output.quiet)), place: String::new() }
    }

    pub fn within(&self, place: String) -> Self {
        Self { line: self.line.clone(), place: format!("{place}, ") }
    }

    #[cfg(feature = "networks")]
    pub fn progress(&self, family: Family, kind: &Kind, progress: Progress) {
        let Progress { network, networks, epoch, validation } = progress;
        let loss = validation.map_or(String::new(), |loss| format!(", validation loss {loss:.4}"));
        let name = family.name();
        self.line.say(&format!("{}{kind}, {name} {network} of {networks}: epoch {epoch}{loss}", self.place));
    }
}

#[cfg(not(feature = "networks"))]
#[derive(Debug, clap::Args)]
pub struct Networks {}

#[cfg(not(feature = "networks"))]
impl Networks {
    pub fn forecasters(&self, windows: &[Window<'_>], _: &Teller) -> anyhow::Result<Vec<Box<dyn Forecaster>>> {
        Ok(baselines(windows))
    }
}

#[cfg(not(feature = "networks"))]
#[derive(Debug, clap::Args)]
pub struct FromFile {}

#[cfg(not(feature = "networks"))]
impl FromFile {
    pub fn read(&self) -> anyhow::Result<Option<Box<dyn Forecaster>>> {
        Ok(None)
    }
}
