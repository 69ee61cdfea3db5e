//! A trained forecaster as a safetensors file: every number a tensor, what they are for as JSON in its metadata.
//!
//! Safetensors, because PyTorch and candle read it and nothing in it is ever run. Scalers, bands and shares stand beside the
//! weights, so that the file is all that a forecast needs. Bytes in and out; who reads and writes files is not decided here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use serde::{Deserialize, Serialize};

use super::inputs::Extra;
use super::model::{Family, Network, Shape};
use super::scaler::Scaler;
use super::train::{LEVELS, Training};
use super::trained::{Channel, Trained, Voice};
use crate::domain::Scope;
use crate::forecast::bands::{Bands, Parts};
use crate::forecast::linear::Linear;
use crate::forecast::{Figure, HISTORY, Kind, OUTPUTS};

const SCHEMA_VERSION: u32 = 1;
/// The metadata's only key: with several the order would differ from run to run.
const METADATA: &str = "jouleplan";
const WIDEST: usize = 4096;

/// Where a forecaster comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub family: String,
    pub hidden: usize,
    pub seed: u64,
    /// What it was trained on, in order of the names.
    pub data: Vec<Source>,
}

/// A file that was trained on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    pub sha256: String,
}

impl Origin {
    pub fn new(family: Family, training: &Training, mut data: Vec<Source>) -> Self {
        data.sort();
        Self { family: family.name().to_owned(), hidden: training.hidden, seed: training.seed, data }
    }
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    schema_version: u32,
    forecaster: String,
    origin: Origin,
    kinds: Vec<KindOf>,
}

#[derive(Serialize, Deserialize)]
struct KindOf {
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    device: Option<String>,
    /// Of the network, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    epochs: Option<usize>,
    /// Figures beside power that the network is given, as columns of telemetry are called.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    inputs: Vec<String>,
}

/// Why a file is no forecaster.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("it is no safetensors file: {0}; make one by `jouleplan forecast train`")]
    NotSafetensors(#[from] safetensors::SafeTensorError),
    #[error("it holds no forecaster of this program; make one by `jouleplan forecast train`")]
    NotOurs,
    #[error("its metadata are wrong: {0}; train the forecaster again")]
    Metadata(#[from] serde_json::Error),
    #[error("its schema version is {0}, this program reads {SCHEMA_VERSION}; train the forecaster again")]
    Version(u32),
    #[error("it has a family, scope, width or input that is not of this program, {0}; train the forecaster again")]
    Unknown(String),
    #[error("tensor `{0}` is missing, of another shape or type, or holds no finite number; train the forecaster again")]
    Tensor(String),
    #[error("its network: {0}; train the forecaster again")]
    Network(#[from] candle_core::Error),
}

/// The bytes of a file, the same for the same forecaster.
///
/// # Errors
/// None are known to occur.
pub fn to_bytes(trained: &Trained, origin: &Origin) -> Result<Vec<u8>, FileError> {
    let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let mut kinds = Vec::new();
    for (at, (kind, channel)) in trained.kinds.iter().enumerate() {
        let Channel { parts, weights, voice, bands } = channel;
        let mut put = |name: &str, size: &[usize], values: Vec<f64>| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.insert(format!("{at}.{name}"), (Dtype::F64, size.to_vec(), bytes));
        };
        let count = parts.count();
        put("limits", &[parts.limits.len()], parts.limits.clone());
        put("weights", &[count, OUTPUTS, HISTORY], weights.iter().flat_map(|of| of.0).flatten().collect());
        put("bands", &[count, OUTPUTS, 2], bands.0.iter().flatten().flat_map(|(low, high)| [*low, *high]).collect());
        kinds.push(KindOf {
            scope: kind.scope.name().to_owned(),
            device: kind.device.clone(),
            epochs: voice.as_ref().map(|voice| voice.epochs),
            inputs: voice.iter().flat_map(|voice| &voice.scaler.extras).map(|of| of.figure.name().to_owned()).collect(),
        });
        let Some(Voice { scaler, network, shares, .. }) = voice else { continue };
        put("shares", &[OUTPUTS], shares.to_vec());
        put("averages", &[OUTPUTS, HISTORY], scaler.averages.0.iter().flatten().copied().collect());
        put("scale_w", &[1], vec![scaler.scale_w]);
        put("units_w", &[OUTPUTS], scaler.units_w.to_vec());
        if !scaler.extras.is_empty() {
            let scales = scaler.extras.iter().flat_map(|extra| [extra.mean, extra.deviation]).collect();
            put("inputs", &[scaler.extras.len(), 2], scales);
        }
        for (name, variable) in network.variables() {
            let values: Vec<f32> = variable.as_tensor().flatten_all()?.to_vec1()?;
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.insert(format!("{at}.network.{name}"), (Dtype::F32, variable.dims().to_vec(), bytes));
        }
    }
    let metadata =
        Metadata { schema_version: SCHEMA_VERSION, forecaster: trained.name.clone(), origin: origin.clone(), kinds };
    let metadata = HashMap::from([(METADATA.to_owned(), serde_json::to_string(&metadata)?)]);
    let mut views = Vec::new();
    for (name, (dtype, size, bytes)) in &tensors {
        views.push((name.as_str(), TensorView::new(*dtype, size.clone(), bytes)?));
    }
    Ok(serialize(views, Some(metadata))?)
}

/// What a file holds.
///
/// # Errors
/// Another file, another version, or tensors that are not what the metadata say.
pub fn from_bytes(bytes: &[u8]) -> Result<(Trained, Origin), FileError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA)).ok_or(FileError::NotOurs)?;
    let version: Version = serde_json::from_str(text)?;
    if version.schema_version != SCHEMA_VERSION {
        return Err(FileError::Version(version.schema_version));
    }
    let Metadata { forecaster, origin, kinds: of, .. } = serde_json::from_str(text)?;
    let unknown = |what: &str| FileError::Unknown(format!("`{what}`"));
    let family = Family::ALL.into_iter().find(|family| family.name() == origin.family);
    let family = family.ok_or_else(|| unknown(&origin.family))?;
    if origin.hidden == 0 || origin.hidden % 2 == 1 || origin.hidden > WIDEST {
        return Err(unknown(&origin.hidden.to_string()));
    }
    let tensors = SafeTensors::deserialize(bytes)?;
    let mut kinds = BTreeMap::new();
    for (at, KindOf { scope, device, epochs, inputs }) in of.into_iter().enumerate() {
        let scope = Scope::ALL.into_iter().find(|known| known.name() == scope).ok_or_else(|| unknown(&scope))?;
        let part = Part { tensors: &tensors, at };
        let figure =
            |name: &String| Figure::ALL.into_iter().find(|figure| figure.name() == name).ok_or_else(|| unknown(name));
        let inputs: Vec<Figure> = inputs.iter().map(figure).collect::<Result<_, _>>()?;
        let channel = part.channel(family, origin.hidden, epochs, &inputs)?;
        kinds.insert(Kind { scope, device }, channel);
    }
    Ok((Trained { name: forecaster, kinds }, origin))
}

#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

/// The tensors of one kind.
struct Part<'f> {
    tensors: &'f SafeTensors<'f>,
    at: usize,
}

impl Part<'_> {
    fn channel(
        &self,
        family: Family,
        hidden: usize,
        epochs: Option<usize>,
        inputs: &[Figure],
    ) -> Result<Channel, FileError> {
        let limits = self.numbers("limits", None)?;
        let count = limits.len() + 1;
        let parts = Parts { limits };
        let weights = self.numbers("weights", Some(&[count, OUTPUTS, HISTORY]))?;
        let weights = weights.chunks(OUTPUTS * HISTORY).map(linear).collect();
        let bands = self.numbers("bands", Some(&[count, OUTPUTS, 2]))?;
        let bands = bands.chunks(2 * OUTPUTS).map(|of| std::array::from_fn(|at| (of[2 * at], of[2 * at + 1])));
        let bands = Bands(bands.collect());
        let voice = epochs.map(|epochs| self.voice(family, hidden, epochs, inputs)).transpose()?;
        Ok(Channel { parts, weights, voice, bands })
    }

    fn voice(&self, family: Family, hidden: usize, epochs: usize, inputs: &[Figure]) -> Result<Voice, FileError> {
        let extras = self.extras(inputs)?;
        let shares = self.numbers("shares", Some(&[OUTPUTS]))?;
        let units_w = self.numbers("units_w", Some(&[OUTPUTS]))?;
        let scaler = Scaler {
            averages: linear(&self.numbers("averages", Some(&[OUTPUTS, HISTORY]))?),
            scale_w: self.numbers("scale_w", Some(&[1]))?[0],
            units_w: std::array::from_fn(|at| units_w[at]),
            extras,
        };
        if scaler.scale_w <= 0.0 {
            return Err(self.wrong("scale_w"));
        }
        let mut tensors = HashMap::new();
        let prefix = self.name("network.");
        for (name, view) in self.tensors.tensors() {
            let Some(own) = name.strip_prefix(&prefix) else { continue };
            let values: Vec<f32> =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            if view.dtype() != Dtype::F32 || values.iter().any(|value| !value.is_finite()) {
                return Err(FileError::Tensor(name));
            }
            tensors.insert(own.to_owned(), Tensor::from_vec(values, view.shape(), &Device::Cpu)?);
        }
        let shape = Shape { inputs: scaler.inputs(), hidden, outputs: OUTPUTS * LEVELS.len() };
        let network = Arc::new(Network::new(family, shape, &tensors)?);
        let shares = std::array::from_fn(|at| shares[at]);
        Ok(Voice { scaler, network, shares, epochs })
    }

    /// What the figures beside power are scaled by.
    fn extras(&self, figures: &[Figure]) -> Result<Vec<Extra>, FileError> {
        if figures.is_empty() {
            return Ok(Vec::new());
        }
        let scales = self.numbers("inputs", Some(&[figures.len(), 2]))?;
        let one = |(figure, of): (&Figure, &[f64])| Extra { figure: *figure, mean: of[0], deviation: of[1] };
        let extras: Vec<Extra> = figures.iter().zip(scales.chunks(2)).map(one).collect();
        let is_right = extras.iter().all(|extra| extra.deviation > 0.0);
        is_right.then_some(extras).ok_or_else(|| self.wrong("inputs"))
    }

    fn name(&self, tensor: &str) -> String {
        format!("{}.{tensor}", self.at)
    }

    fn wrong(&self, tensor: &str) -> FileError {
        FileError::Tensor(self.name(tensor))
    }

    /// Finite numbers of this size, or of any one dimension.
    fn numbers(&self, tensor: &str, size: Option<&[usize]>) -> Result<Vec<f64>, FileError> {
        let view = self.tensors.tensor(&self.name(tensor)).map_err(|_| self.wrong(tensor))?;
        let is_size = size.map_or(view.shape().len() == 1, |size| view.shape() == size);
        let number = |bytes: &[u8]| bytes.try_into().map(f64::from_le_bytes).unwrap_or(f64::NAN);
        let numbers: Vec<f64> = view.data().chunks(8).map(number).collect();
        let is_right = view.dtype() == Dtype::F64 && is_size && numbers.iter().all(|number| number.is_finite());
        is_right.then_some(numbers).ok_or_else(|| self.wrong(tensor))
    }
}

/// From weights in the order of outputs, at least `OUTPUTS * HISTORY`.
fn linear(values: &[f64]) -> Linear {
    Linear(std::array::from_fn(|output| std::array::from_fn(|step| values[output * HISTORY + step])))
}

#[cfg(test)]
mod tests {
    use super::super::train::Inputs;
    use super::super::trained::tests::{pulses, small};
    use super::super::trained::{Studied, train};
    use super::*;
    use crate::forecast::{Forecaster, History, Recording, Window};

    #[test]
    fn a_forecaster_comes_back_as_it_was_and_a_broken_file_is_refused() {
        let recordings: Vec<Recording> = (0..3).map(|group| pulses(group, 300)).collect();
        let windows: Vec<Window<'_>> = recordings.iter().flat_map(Recording::windows).collect();
        let histories: Vec<History<'_>> = windows.iter().step_by(50).map(|window| window.history).collect();
        for inputs in [Inputs::Power, Inputs::All] {
            let training = Training { most_epochs: 2, inputs, ..small() };
            let Studied { network, selected, .. } = train(Family::Gru, &windows, &training, &|_, _| ()).unwrap();
            let source = |name: &str| Source { name: name.into(), sha256: "0".repeat(64) };
            let origin = Origin::new(Family::Gru, &training, vec![source("b"), source("a")]);
            let bytes = to_bytes(&network, &origin).unwrap();
            let knows = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            assert_eq!(knows("utilization_pct"), inputs == Inputs::All);
            comes_back(&network, &origin, &histories);
            comes_back(&selected, &origin, &histories);
        }
        assert!(matches!(from_bytes(b"no"), Err(FileError::NotSafetensors(_))));
    }

    fn comes_back(trained: &Trained, origin: &Origin, histories: &[History<'_>]) {
        let bytes = to_bytes(trained, origin).unwrap();
        let (back, from) = from_bytes(&bytes).unwrap();
        assert_eq!((back.name(), &from), (trained.name(), origin));
        assert_eq!(back.forecast(histories), trained.forecast(histories));
        assert_eq!(to_bytes(&back, &from).unwrap(), bytes);
        for cut in [0, 7, 100, bytes.len() - 1] {
            assert!(from_bytes(&bytes[..cut]).is_err(), "{cut}");
        }
        let replaced = |from: &str, to: &str| {
            let mut broken = bytes.clone();
            let at = broken.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
            broken[at..at + from.len()].copy_from_slice(to.as_bytes());
            from_bytes(&broken).map(|_| ()).unwrap_err().to_string()
        };
        assert!(replaced("schema_version\\\":1", "schema_version\\\":7").contains("schema version is 7"));
        assert!(replaced("family\\\":\\\"gru", "family\\\":\\\"grx").contains("`grx`"));
        assert!(replaced("\"0.bands\"", "\"0.hands\"").contains("`0.bands`"));
        assert!(replaced("\"jouleplan\"", "\"jouleplax\"").contains("no forecaster"));
    }
}
