//! Trials on an OpenAI-compatible server: a closed loop of equal requests, metered from the first sent to the last ended.

use std::time::Duration;

use super::metering::Metering;
use super::trial::{Order, Stop, TrialError, TrialRunner};
use crate::domain::Sample;
use crate::measure::load::{self, Endpoint, LoadOutcome, LoadPlan, MarkKind};
use crate::units::Seconds;

/// A load that was this full on average ran at the batch that was asked for; ends of the loop take the rest.
const FULL: f64 = 0.9;

/// Loads a server.
pub struct EndpointRunner {
    pub endpoint: Endpoint,
    pub metering: Metering,
    /// Identity of every row.
    pub template: Sample,
    /// For one request.
    pub timeout: Duration,
}

impl TrialRunner for EndpointRunner {
    fn cool_down(&mut self, stop: &Stop) -> bool {
        self.metering.cool_down(stop)
    }

    fn warnings(&self) -> Vec<String> {
        self.metering.warnings()
    }

    fn run(&mut self, order: &Order, stop: &Stop) -> Result<Sample, TrialError> {
        let cell = order.cell;
        let plan = LoadPlan {
            input_tokens: cell.input_tokens,
            output_tokens: cell.output_tokens,
            concurrency: cell.batch,
            requests: order.requests,
            seed: order.seed,
            timeout: self.timeout,
        };
        let endpoint = &self.endpoint;
        let (outcome, result) = self.metering.measure(cell.sm_clock_mhz, stop, |region| {
            let on_mark = |mark: load::Mark| match mark.kind {
                MarkKind::Started => region.begin(),
                MarkKind::Full => {}
                MarkKind::Draining => region.ending(),
                MarkKind::Ended => region.end(mark.at, None, None),
            };
            let outcome =
                load::run(endpoint, &plan, &on_mark).map_err(|error| TrialError::failed("load", error.to_string()))?;
            match refuse(&outcome) {
                Some(error) => Err(error),
                None => Ok(outcome),
            }
        })?;
        let Some(summary) = outcome.summary() else {
            return Err(TrialError::failed("load", "the load has no summary"));
        };
        let mut sample = self.template.clone();
        self.metering.fill(&result, &mut sample);
        let batch = f64::from(cell.batch);
        cell.name_in(&mut sample);
        sample.batch_size = if summary.mean_in_flight >= FULL * batch { batch } else { summary.mean_in_flight };
        sample.requests = f64::from(summary.requests);
        sample.runtime = Some(summary.runtime);
        sample.output_throughput_tok_s = Some(summary.output_throughput_tok_s);
        let positive = |time: Seconds| (time.0 > 0.0).then_some(time);
        sample.ttft = summary.ttft_mean.and_then(positive);
        sample.ttft_p99 = summary.ttft_p99.and_then(positive);
        sample.tbt_p50 = summary.tbt_p50.and_then(positive);
        sample.tbt_p99 = summary.tbt_p99.and_then(positive);
        Ok(sample)
    }
}

/// A single failed request fails the trial: what the others took is of a load that was not full.
fn refuse(outcome: &LoadOutcome) -> Option<TrialError> {
    let total = outcome.completed.len() + outcome.failed.len() + outcome.unsent as usize;
    if outcome.unsent > 0 {
        let last =
            outcome.failed.last().map_or(String::new(), |failed| format!(" ({}: {})", failed.kind, failed.detail));
        return Some(TrialError::Fatal(format!(
            "the server went away and did not come back{last}; start it again and go on with --resume"
        )));
    }
    let (kind, count) = outcome.failures().into_iter().max_by_key(|(_, count)| *count)?;
    let first = outcome.failed.iter().find(|failed| failed.kind.name() == kind)?;
    let what = format!("{count} of {total} requests: {} ({})", first.kind, first.detail);
    Some(TrialError::failed(kind, what))
}
