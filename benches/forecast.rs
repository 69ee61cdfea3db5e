//! How long 1,000 devices take to forecast, and a step of training, in milliseconds: medians over repeated runs.
//!
//! `cargo bench --bench forecast`; `benches/forecast.py` puts the same step by PyTorch beside it. The
//! network is trained here for an epoch on made traces, since time does not depend on what it has learned, and it is the one
//! that is believed in everything: one that is believed nowhere is not even asked.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use jouleplan::domain::{Scope, Timestamp};
use jouleplan::forecast::network::model::{Family, Network, Shape, pinball};
use jouleplan::forecast::network::{LEVELS, Training, train};
use jouleplan::forecast::{Forecaster, History, Kind, OUTPUTS, Recording, Step, Window};

const DEVICES: usize = 1000;
/// Of the sequences that networks are given.
const STEPS: usize = 20;
const INPUTS: usize = 3;
const BATCH: usize = 128;
const RUNS: usize = 21;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kind = || Kind { scope: Scope::Device, device: Some("L4".into()) };
    let recording = |device: usize, steps: usize| {
        let power =
            |at: usize| 200.0 + 100.0 * (((at + 13 * device) / 40) % 2) as f64 + ((at * 31 + device) % 11) as f64;
        let run: Vec<Step> = (0..steps).map(|at| Step::measured(power(at))).collect();
        let start = Timestamp::from_micros(0).ok_or("no such time")?;
        let name = device.to_string();
        Ok::<_, Box<dyn std::error::Error>>(Recording {
            group: name.clone(),
            name,
            kind: kind(),
            runs: vec![(start, run)],
        })
    };
    let traces: Vec<Recording> = (0..4).map(|device| recording(device, 300)).collect::<Result<_, _>>()?;
    let windows: Vec<Window<'_>> = traces.iter().flat_map(Recording::windows).collect();
    let forecaster =
        train(Family::Gru, &windows, &Training { most_epochs: 1, ..Training::default() }, &|_, _| ())?.network;
    let devices: Vec<Recording> = (0..DEVICES).map(|device| recording(device, 60)).collect::<Result<_, _>>()?;
    let histories: Vec<History<'_>> = devices.iter().filter_map(|device| Some(device.latest()?.1)).collect();
    let forecast_ms = median(|| {
        let forecasts = forecaster.forecast(&histories);
        assert!(forecasts.len() == DEVICES && forecasts.iter().all(Option::is_some), "all are forecast");
        Ok(())
    })?;
    let step_ms = training_step()?;
    println!("{{\"devices\": {DEVICES}, \"forecast_ms\": {forecast_ms:.3}, \"training_step_ms\": {step_ms:.3}}}");
    Ok(())
}

/// Forward, loss, backward and AdamW on one batch, as training does it.
fn training_step() -> Result<f64, Box<dyn std::error::Error>> {
    let shape = Shape { inputs: INPUTS, hidden: Training::default().hidden, outputs: OUTPUTS * LEVELS.len() };
    let network = Network::seeded(Family::Gru, shape, 1)?;
    let parameters = ParamsAdamW { lr: 2e-3, weight_decay: 1e-3, ..ParamsAdamW::default() };
    let mut optimiser = AdamW::new(network.variables().values().cloned().collect(), parameters)?;
    let sequences = Tensor::ones((BATCH, STEPS, INPUTS), DType::F32, &Device::Cpu)?;
    let truth = Tensor::ones((BATCH, OUTPUTS), DType::F32, &Device::Cpu)?;
    median(|| Ok(optimiser.backward_step(&pinball(&network.forward(&sequences)?, &truth, &LEVELS)?)?))
}

/// Milliseconds.
fn median(mut run: impl FnMut() -> Result<(), Box<dyn std::error::Error>>) -> Result<f64, Box<dyn std::error::Error>> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        run()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}
