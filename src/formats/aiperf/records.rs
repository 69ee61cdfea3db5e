//! `profile_export.jsonl`: a line a request, with its metadata, metrics and error.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::{TIMES, refuse_cached, refuse_failures, scaled, seconds, whole};
use crate::formats::deployment_facts::{Run, moments, token_gaps};
use crate::formats::json_fields::{Fields, parse_line};
use crate::formats::problems::{Collector, Problems};
use crate::formats::text::read_text;
use crate::stats::score::{mean, quantile};
use crate::units::Seconds;

const REMEDY: &str = "is this the profile_export.jsonl of a run that generates text?";

/// A request that was answered, in what it adds to the run.
struct Answered {
    start_ns: u64,
    end_ns: u64,
    /// As AIPerf's tokenizer counts, and as the server told.
    counted: Option<(f64, f64)>,
    told: Option<(f64, f64)>,
    cached: f64,
    ttft: Option<Seconds>,
    per_token: Option<Seconds>,
}

pub fn read(path: &Path) -> Result<Run, Problems> {
    let text = read_text(path)?;
    let mut problems = Collector::new(path);
    let mut answered = Vec::new();
    let mut gaps: Vec<f64> = Vec::new();
    let mut failed = 0;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let Some(value) = parse_line(line, number + 1, &mut problems) else { continue };
        let Some(fields) = Fields::new(&value, format!("line {}", number + 1), &mut problems) else { continue };
        match request(&fields, &mut gaps, &mut problems) {
            Some(Request::Answered(request)) => answered.push(request),
            Some(Request::Failed) => failed += 1,
            Some(Request::WarmUp) | None => {}
        }
    }
    refuse_failures(failed, answered.len() as u64 + failed, "error".to_owned(), &mut problems);
    let cached: f64 = answered.iter().map(|request| request.cached).sum();
    refuse_cached(cached, "usage_prompt_cache_read_tokens".to_owned(), &mut problems);
    if answered.is_empty() && problems.is_empty() {
        let what = if text.trim().is_empty() { "the file is empty" } else { "no request is of the profiling phase" };
        problems.add("", what, REMEDY);
    }
    let run = run(&answered, &gaps, &mut problems);
    whole(run, problems, REMEDY)
}

enum Request {
    Answered(Answered),
    Failed,
    WarmUp,
}

fn request(fields: &Fields, gaps: &mut Vec<f64>, problems: &mut Collector) -> Option<Request> {
    let metadata = fields.required_object("metadata", REMEDY, problems)?;
    if metadata.text("benchmark_phase", problems).is_some_and(|phase| phase == "warmup") {
        return Some(Request::WarmUp);
    }
    if fields.has("error") || metadata.flag("was_cancelled", problems) == Some(true) {
        return Some(Request::Failed);
    }
    let mut instant = |name| metadata.required_count(name, REMEDY, problems);
    let (start_ns, end_ns) = (instant("request_start_ns"), instant("request_end_ns"));
    let metrics = fields.required_object("metrics", REMEDY, problems)?;
    let mut value = |name: &str| metrics.object(name, problems)?.number("value", problems);
    let told = value("usage_prompt_tokens").zip(value("usage_completion_tokens"));
    let counted = value("input_sequence_length").zip(value("output_sequence_length"));
    let cached = value("usage_prompt_cache_read_tokens").unwrap_or(0.0);
    if told.is_none() && counted.is_none() {
        let what = "input_sequence_length or output_sequence_length is missing";
        metrics.refuse("output_sequence_length", what, REMEDY, problems);
        return None;
    }
    let mut time = |name: &str| {
        let metric = metrics.object(name, problems)?;
        seconds(&metric, "value", problems)
    };
    let (ttft, per_token) = (time("time_to_first_token"), time("inter_token_latency"));
    if let Some(metric) = metrics.object("inter_chunk_latency", problems) {
        let scale = scaled(&metric, 1.0, TIMES, problems).unwrap_or(1.0);
        gaps.extend(metric.numbers("value", problems).unwrap_or_default().iter().map(|gap| gap * scale));
    }
    let (start_ns, end_ns) = (start_ns?, end_ns?);
    if end_ns <= start_ns {
        metadata.refuse("request_end_ns", "the request ended before it began", "was the file edited?", problems);
        return None;
    }
    Some(Request::Answered(Answered { start_ns, end_ns, counted, told, cached, ttft, per_token }))
}

fn run(answered: &[Answered], gaps: &[f64], problems: &mut Collector) -> Option<Run> {
    let start = answered.iter().map(|request| request.start_ns).min()?;
    let end = answered.iter().map(|request| request.end_ns).max()?;
    let nanoseconds = |from: u64, to: u64| (to - from) as f64 / 1e9;
    let duration = nanoseconds(start, end);
    let in_flight =
        answered.iter().map(|request| nanoseconds(request.start_ns, request.end_ns)).sum::<f64>() / duration;
    // The server's counts if it told them for every request: of two tokenizers, one only.
    let told: Option<Vec<(f64, f64)>> = answered.iter().map(|request| request.told).collect();
    let counted: Option<Vec<(f64, f64)>> = answered.iter().map(|request| request.counted).collect();
    let Some(lengths) = told.or(counted) else {
        problems.add("", "some requests have the server's token counts only, others AIPerf's only", REMEDY);
        return None;
    };
    let times = |time: fn(&Answered) -> Option<Seconds>| -> Vec<f64> {
        answered.iter().filter_map(|request| time(request).map(|time| time.0)).collect()
    };
    let (ttfts, per_token) = (times(|request| request.ttft), times(|request| request.per_token));
    let chunks_are_tokens = matches!((mean(gaps), mean(&per_token)), (Some(gap), Some(mean)) if token_gaps(gap, mean));
    let gap = |share: f64| quantile(gaps, share).filter(|_| chunks_are_tokens).map(Seconds);
    Some(Run {
        in_flight: Some(in_flight),
        ttft: mean(&ttfts).map(Seconds),
        ttft_p99: quantile(&ttfts, 0.99).map(Seconds),
        tbt_p50: gap(0.5),
        tbt_p99: gap(0.99),
        measured_at: UNIX_EPOCH
            .checked_add(Duration::from_nanos(start))
            .map(|at| humantime::format_rfc3339_millis(at).to_string()),
        ..Run::new(answered.len() as f64, Seconds(duration), moments(lengths.iter().copied())?, "aiperf requests")
    })
}
