//! `profile_export_aiperf.json`: a run's metrics, each `{"unit": .., "avg": .., "std": .., "p99": ..}`.

use std::path::Path;

use super::{refuse_cached, refuse_failures, seconds, telemetry, whole};
use crate::domain::Moments;
use crate::formats::deployment_facts::{Facts, Run, token_gaps};
use crate::formats::json_fields::{Fields, parse};
use crate::formats::problems::{Collector, Problems};
use crate::formats::text::read_text;

const REMEDY: &str = "is this the profile_export_aiperf.json of a run that generates text?";

pub fn read(path: &Path, facts: &Facts, gpus: Option<&[String]>) -> Result<Run, Problems> {
    let text = read_text(path)?;
    let mut problems = Collector::new(path);
    let value = parse(&text, &mut problems);
    let run = value
        .as_ref()
        .and_then(|value| Fields::new(value, "", &mut problems))
        .and_then(|fields| run(&fields, facts, gpus, &mut problems));
    whole(run, problems, REMEDY)
}

fn run(fields: &Fields, facts: &Facts, gpus: Option<&[String]>, problems: &mut Collector) -> Option<Run> {
    refuse_broken_off(fields, problems);
    let requests = average(fields, "request_count", problems);
    let duration = fields.required_object("benchmark_duration", REMEDY, problems).and_then(|metric| {
        metric.required_number("avg", REMEDY, problems)?;
        seconds(&metric, "avg", problems)
    });
    let failed = failures(fields, problems);
    refuse_failures(
        failed,
        requests.map_or(0, |count| count as u64) + failed,
        fields.place("error_request_count"),
        problems,
    );
    if let Some(metric) = fields.object("total_usage_prompt_cache_read_tokens", problems) {
        let tokens = metric.number("avg", problems).unwrap_or(0.0);
        refuse_cached(tokens, metric.place("avg"), problems);
    }
    let tokens = tokens(fields, requests, problems);
    let served = telemetry::read(fields, facts, gpus, problems);
    let model = model(fields, facts, problems);
    let mut time = |metric: &str, name: &str| {
        let metric = fields.object(metric, problems)?;
        seconds(&metric, name, problems)
    };
    let latency = time("request_latency", "avg");
    let (ttft, ttft_p99) = (time("time_to_first_token", "avg"), time("time_to_first_token", "p99"));
    let (gap, per_token) = (time("inter_chunk_latency", "avg"), time("inter_token_latency", "avg"));
    let (tbt_p50, tbt_p99) = (time("inter_chunk_latency", "p50"), time("inter_chunk_latency", "p99"));
    let chunks_are_tokens = matches!((gap, per_token), (Some(gap), Some(mean)) if token_gaps(gap.0, mean.0));
    let (requests, duration) = (requests?, duration?);
    let version = fields.text("aiperf_version", problems).unwrap_or("of unknown version");
    let served = served.unwrap_or_default();
    Some(Run {
        model,
        device: served.device,
        node: served.node,
        // Not `start_time`, which is local time without a zone.
        in_flight: latency.map(|latency| latency.0 * requests / duration.0),
        gpu_energy: served.energy,
        ttft,
        ttft_p99,
        tbt_p50: tbt_p50.filter(|_| chunks_are_tokens),
        tbt_p99: tbt_p99.filter(|_| chunks_are_tokens),
        ..Run::new(requests, duration, tokens?, &format!("aiperf {version}"))
    })
}

fn refuse_broken_off(fields: &Fields, problems: &mut Collector) {
    for (name, broken) in [("was_cancelled", true), ("is_complete", false)] {
        if fields.flag(name, problems) == Some(broken) {
            fields.refuse(name, "the run was broken off", "measure it again, or leave the file out", problems);
        }
    }
}

/// Absent where no request failed. The list of errors counts the same once more, by kind.
fn failures(fields: &Fields, problems: &mut Collector) -> u64 {
    let metric = fields.object("error_request_count", problems);
    let counted = metric.and_then(|metric| metric.count("avg", problems)).unwrap_or(0);
    let mut listed = 0u64;
    for (index, kind) in fields.list("error_summary", problems).unwrap_or_default().iter().enumerate() {
        let kind = Fields::new(kind, format!("error_summary[{index}]"), problems);
        listed = listed.saturating_add(kind.and_then(|kind| kind.count("count", problems)).unwrap_or(0));
    }
    counted.max(listed)
}

/// Token counts of the server where it told them for every request, else those that AIPerf's tokenizer made.
fn tokens(fields: &Fields, requests: Option<f64>, problems: &mut Collector) -> Option<Moments> {
    let mut told = |name: &str| {
        let metric = fields.object(name, problems)?;
        let count = metric.number("count", problems);
        (count.is_none() || count == requests).then_some(metric)
    };
    let usage = (told("usage_prompt_tokens"), told("usage_completion_tokens"));
    let (input, output) = match usage {
        (Some(input), Some(output)) => (input, output),
        _ => {
            let mut metric = |name: &str| fields.required_object(name, REMEDY, problems);
            metric("input_sequence_length").zip(metric("output_sequence_length"))?
        }
    };
    let mut mean = |metric: &Fields| metric.required_number("avg", REMEDY, problems);
    let (input_mean, output_mean) = mean(&input).zip(mean(&output))?;
    // AIPerf's deviation is that of the population (numpy's, ddof 0).
    let mut square = |metric: &Fields, mean: f64| metric.number("std", problems).map(|std| mean * mean + std * std);
    let (input_sq, output_sq) = (square(&input, input_mean), square(&output, output_mean));
    // Of the mean product, only what follows: one length that never changes is independent of the other.
    let constant = input_sq == Some(input_mean * input_mean) || output_sq == Some(output_mean * output_mean);
    Some(Moments {
        input: Some(input_mean),
        output: output_mean,
        input_sq,
        output_sq,
        input_output: constant.then_some(input_mean * output_mean),
    })
}

/// The one model of the run: `models.items` since the configuration has sections, `endpoint.model_names` before.
fn model(fields: &Fields, facts: &Facts, problems: &mut Collector) -> Option<String> {
    let config = fields.object("input_config", problems)?;
    let mut names: Vec<String> = Vec::new();
    if let Some(models) = config.object("models", problems) {
        for (index, item) in models.list("items", problems).unwrap_or_default().iter().enumerate() {
            let item = Fields::new(item, format!("{}[{index}]", models.place("items")), problems)?;
            names.extend(item.text("name", problems).map(str::to_owned));
        }
    } else if let Some(endpoint) = config.object("endpoint", problems) {
        let listed = endpoint.list("model_names", problems).unwrap_or_default();
        names.extend(listed.iter().filter_map(|name| name.as_str().map(str::to_owned)));
    }
    names.sort_unstable();
    names.dedup();
    if names.len() > 1 && facts.model.is_none() {
        let what = format!("the run is of {} models ({})", names.len(), names.join(", "));
        config.refuse("models", what, "a sample is of one; name it with --model if they are names of one", problems);
    }
    names.into_iter().next()
}

fn average(fields: &Fields, name: &str, problems: &mut Collector) -> Option<f64> {
    fields.required_object(name, REMEDY, problems)?.required_number("avg", REMEDY, problems)
}
