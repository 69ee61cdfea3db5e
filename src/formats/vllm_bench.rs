//! Import of vLLM's benchmarks: `vllm bench serve --save-result` (or `--append-result`: several results, one after
//! another) and `vllm bench throughput --output-json`.
//!
//! Written after vllm/benchmarks/serve.py at commit 009e6d4a and vllm/benchmarks/throughput.py at commit 1a91bc2d of
//! github.com/vllm-project/vllm (Apache-2.0). Keys that came with later releases (`failed`, `latencies`) may be absent.
//! Neither benchmark measures energy, so no sample has any. `date` is local time without a zone and is left out, and so is
//! `backend`, which names the client's protocol and not the engine.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::deployment_facts::{Facts, Run, moments, refuse_failures, token_gaps};
use super::json_fields::{Fields, parse_all};
use super::problems::{Collector, Problems};
use super::text::read_text;
use crate::domain::{Moments, Sample};
use crate::units::Seconds;

/// What is not in vLLM's files beside the deployment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lengths {
    /// Mean prompt length of `vllm bench throughput`, whose file only has the sum of prompts and outputs.
    pub input_tokens: Option<f64>,
    /// All requests had the same lengths. Else only `--save-detailed` tells how they spread.
    pub constant: bool,
}

/// Reads files of either kind, results in order.
///
/// # Errors
/// `Unreadable`, or every problem of every file at once: what neither a file nor `facts` says, failed requests, and
/// figures that contradict each other are such.
pub fn import(files: &[PathBuf], facts: &Facts, lengths: Lengths) -> Result<Vec<Sample>, Problems> {
    let mut samples = Vec::new();
    let mut all = Vec::new();
    for path in files {
        match import_file(path, facts, lengths) {
            Ok(more) => samples.extend(more),
            Err(Problems::BadData(problems)) => all.extend(problems),
            Err(unreadable) => return Err(unreadable),
        }
    }
    if all.is_empty() { Ok(samples) } else { Err(Problems::BadData(all)) }
}

fn import_file(path: &Path, facts: &Facts, lengths: Lengths) -> Result<Vec<Sample>, Problems> {
    let text = read_text(path)?;
    let mut problems = Collector::new(path);
    let results = parse_all(&text, &mut problems);
    if results.is_empty() && problems.is_empty() {
        problems.add("", "the file is empty", "did the benchmark end?");
    }
    let mut samples = Vec::new();
    for (index, result) in results.iter().enumerate() {
        let at = if results.len() == 1 { String::new() } else { format!("result {}", index + 1) };
        if let Some(run) = read_result(result, &at, lengths, &mut problems) {
            samples.extend(facts.sample(run, &at, &mut problems));
        }
    }
    problems.finish(samples)
}

fn read_result(result: &Value, at: &str, lengths: Lengths, problems: &mut Collector) -> Option<Run> {
    let fields = Fields::new(result, at, problems)?;
    if fields.has("elapsed_time") {
        throughput(&fields, lengths, problems)
    } else if fields.has("duration") {
        serve(&fields, lengths, problems)
    } else {
        let remedy = "expected `duration` (vllm bench serve) or `elapsed_time` (vllm bench throughput)";
        problems.add(at, "this is no result of vllm bench", remedy);
        None
    }
}

fn serve(fields: &Fields, lengths: Lengths, problems: &mut Collector) -> Option<Run> {
    let remedy = "is this a result of `vllm bench serve` on a model that generates text?";
    let mut number = |name| fields.required_number(name, remedy, problems);
    let (duration, completed) = (number("duration"), number("completed"));
    let (input, output) = (number("total_input_tokens"), number("total_output_tokens"));
    let asked = fields.count("num_prompts", problems);
    let told = fields.count("failed", problems);
    let (duration, completed, input, output) = (duration?, completed?, input?, output?);
    let failed = told.unwrap_or_else(|| asked.map_or(0, |asked| asked.saturating_sub(completed as u64)));
    if failed > 0 {
        refuse_failures(failed, completed as u64 + failed, fields.place("failed"), problems);
        return None;
    }
    if completed <= 0.0 {
        fields.refuse("completed", "no request was completed", "leave the file out", problems);
        return None;
    }
    let mut milli = |name: &str| fields.number(name, problems).map(|milli| Seconds(milli / 1e3));
    let (ttft, ttft_p99) = (milli("mean_ttft_ms"), milli("p99_ttft_ms"));
    let (tpot, gap) = (milli("mean_tpot_ms"), milli("mean_itl_ms"));
    let (tbt_p50, tbt_p99) = (milli("median_itl_ms"), milli("p99_itl_ms"));
    let e2e = milli("mean_e2el_ms");
    // Without a stream there is no first token, and vLLM writes 0 for what it did not see.
    let seen = |time: Option<Seconds>| time.filter(|time| time.0 > 0.0);
    let chunks_are_tokens = matches!((seen(gap), seen(tpot)), (Some(gap), Some(tpot)) if token_gaps(gap.0, tpot.0));
    let latencies = fields.numbers("latencies", problems);
    // Latency = TTFT + TPOT * (output - 1) for each request; so for the means, where TPOT does not depend on the length.
    let mean_latency = match (latencies, e2e, seen(ttft), tpot) {
        (Some(latencies), ..) if latencies.len() as f64 == completed => Some(latencies.iter().sum::<f64>() / completed),
        (_, Some(e2e), ..) => Some(e2e.0),
        (_, _, Some(ttft), Some(tpot)) => Some(ttft.0 + tpot.0 * (output / completed - 1.0)),
        _ => None,
    };
    let tokens = spread(fields, (input / completed, output / completed), completed, lengths, problems)?;
    Some(Run {
        model: fields.text("model_id", problems).map(str::to_owned),
        in_flight: mean_latency.map(|latency| latency * completed / duration),
        ttft: seen(ttft),
        ttft_p99: seen(ttft_p99),
        tbt_p50: seen(tbt_p50).filter(|_| chunks_are_tokens),
        tbt_p99: seen(tbt_p99).filter(|_| chunks_are_tokens),
        ..Run::new(completed, Seconds(duration), tokens, "vllm bench serve")
    })
}

/// Moments from the lengths of `--save-detailed`, else from what the user knows of them.
fn spread(
    fields: &Fields,
    mean: (f64, f64),
    completed: f64,
    lengths: Lengths,
    problems: &mut Collector,
) -> Option<Moments> {
    let lists = (fields.numbers("input_lens", problems), fields.numbers("output_lens", problems));
    let (Some(inputs), Some(outputs)) = lists else {
        return Some(only_means(mean, lengths.constant));
    };
    let close = |listed: f64, total: f64| (listed - total).abs() <= 1e-6 * total.abs();
    let adds_up =
        |listed: &Moments| listed.input.is_some_and(|input| close(input, mean.0)) && close(listed.output, mean.1);
    let same = inputs.len() as f64 == completed && outputs.len() == inputs.len();
    let detailed = moments(inputs.into_iter().zip(outputs)).filter(|listed| same && adds_up(listed));
    if detailed.is_none() {
        let what = "input_lens and output_lens do not add up to completed, total_input_tokens and total_output_tokens";
        fields.refuse("input_lens", what, "was the file edited?", problems);
    }
    detailed
}

fn only_means((input, output): (f64, f64), constant: bool) -> Moments {
    if constant {
        Moments::constant(input, output)
    } else {
        Moments { input: Some(input), output, input_sq: None, output_sq: None, input_output: None }
    }
}

/// The offline benchmark: no latencies, all requests at once.
fn throughput(fields: &Fields, lengths: Lengths, problems: &mut Collector) -> Option<Run> {
    let remedy = "is this the --output-json of `vllm bench throughput`?";
    let mut number = |name| fields.required_number(name, remedy, problems);
    let (duration, requests, total) = (number("elapsed_time"), number("num_requests"), number("total_num_tokens"));
    if lengths.input_tokens.is_none() {
        let what = "the file has the sum of prompt and output tokens only";
        fields.refuse("input_tokens", what, "give the mean prompt length with --input-tokens", problems);
    }
    let (duration, requests, total, input) = (duration?, requests?, total?, lengths.input_tokens?);
    let output = total / requests - input;
    if output <= 0.0 {
        let what = format!("prompts of {input} tokens leave none for outputs: {requests} requests have {total} tokens");
        fields.refuse("total_num_tokens", what, "is --input-tokens that of this run?", problems);
        return None;
    }
    let tokens = only_means((input, output), lengths.constant);
    Some(Run::new(requests, Seconds(duration), tokens, "vllm bench throughput"))
}

#[cfg(test)]
mod tests;
