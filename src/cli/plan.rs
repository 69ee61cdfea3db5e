//! `plan`: reads everything, solves, checks the plan before anything is written, writes the plan directory, reports.

pub mod current_power;
mod no_plan;
mod replan;
mod request;
mod what_if;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use clap::ValueEnum;
use serde_json::{Value, json};

use self::current_power::CurrentPower;
use self::no_plan::NoPlan;
use self::replan::Left;
use self::request::{Request, now};
use self::what_if::{Frontier, WhatIf};
use super::arguments::{confidence, duration, fraction, instant, margin, percent, power_cap};
use super::exit::Failure;
use super::incumbent;
use super::inputs::{self, Inputs};
use super::output::Output;
use super::plan_options;
use super::progress::Line;
use super::zeta;
use crate::check::{CheckInput, Report, check};
use crate::formats::plan_json::{Baseline, PlanJson, Run, ZetaJson};
use crate::formats::served_csv::{self, SERVED_CSV};
use crate::formats::workload::{Format, ModelPolicy};
use crate::formats::write::{DirectoryWriter, check_target, sha256_file};
use crate::options::{OptionsInput, build};
use crate::plan::price::Priced;
use crate::plan::{self, Plan, PlanProblem, Settings, Verdict};
use crate::report::claims::{Proof, of_schedule, zeta as claimed_zeta};
use crate::report::plan_json::{Circumstances, baseline, plan_json};
use crate::report::tables::write_directory;
use crate::report::{self, power_adjustment, summary};

/// Decide which request runs where and when, on the fewest joules
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Models files (jouleplan fit)
    #[arg(long, required_unless_present_any = ["options", "replan"], num_args = 1..)]
    models: Vec<PathBuf>,
    /// Cluster file
    #[arg(long, required_unless_present_any = ["options", "replan"])]
    cluster: Option<PathBuf>,
    /// Workload files, or patterns such as 'queue/*.csv': CSV, Azure trace, OpenAI batch JSONL or class table, packed by
    /// gzip or zstd or not
    #[arg(long, required_unless_present_any = ["options", "replan"], num_args = 1..)]
    workload: Vec<PathBuf>,
    /// Jobs file
    #[arg(long)]
    jobs: Option<PathBuf>,
    /// Accuracy of models by task
    #[arg(long)]
    accuracy: Option<PathBuf>,
    /// Task of jobs that name none
    #[arg(long)]
    task: Option<String>,
    /// Deadline of requests and jobs that have none: 8h, or an instant
    #[arg(long)]
    deadline: Option<String>,
    /// What to minimise: energy; carbon or cost, which need carbon_csv or price_csv in the cluster file's [site]; or
    /// zeta=Z, the reference paper's weighing of energy (1) against accuracy (0)
    #[arg(long, default_value = "energy", value_parser = zeta::objective)]
    objective: zeta::Objective,
    /// With --objective zeta=Z: least share of the requests that a model gets
    #[arg(long, value_name = "MODEL=SHARE", value_parser = zeta::model_share)]
    model_share: Vec<(String, f64)>,
    /// Most watts the whole cluster may draw at any instant, in place of the cluster file's cap
    #[arg(long, value_name = "W", value_parser = power_cap)]
    power_cap_w: Option<f64>,
    #[command(flatten)]
    current_power: CurrentPower,
    /// Plan anew what has not started of this plan at --start, from its own inputs and flags; what has started is kept
    #[arg(long, value_name = "DIR", conflicts_with_all = [
        "models", "cluster", "workload", "jobs", "accuracy", "task", "deadline", "min_accuracy", "incumbent", "releases",
        "tokenizer", "sidecar", "format", "engines", "objective", "model_share", "power_cap_w", "options", "safety",
        "confidence", "model_policy",
    ])]
    replan: Option<PathBuf>,
    /// Mean accuracy, in percent, of jobs that have no floor
    #[arg(long, value_parser = percent)]
    min_accuracy: Option<f64>,
    /// Second 0 of the plan, RFC 3339 with a zone; now, if absent
    #[arg(long, value_parser = instant)]
    start: Option<SystemTime>,
    /// An earlier plan directory; the new plan costs no more, as long as the old one is valid
    #[arg(long)]
    incumbent: Option<PathBuf>,
    /// Stop when (objective - bound) / objective is at most this
    #[arg(long, default_value = "0.001", value_parser = fraction)]
    gap: f64,
    /// Begin no further step of the search after this; the step at hand is finished
    #[arg(long, default_value = "60s", value_parser = duration)]
    time_limit: Duration,
    /// Threads to use; all cores, if absent
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Seed of the baselines that draw lots
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Price simpler policies beside the plan; auto leaves them out where they take longer than the plan: of queues of more
    /// than 200,000 requests, and with --objective zeta=Z
    #[arg(long, value_enum, default_value_t = Baselines::Auto)]
    baselines: Baselines,
    /// Margin on predicted seconds: 0.1 adds 10 %
    #[arg(long, default_value = "0.10", value_parser = margin)]
    safety: f64,
    /// Predict outputs of which only max_tokens is known from the known outputs of their job, and keep each deadline with
    /// this confidence; max_tokens itself is taken, if absent
    #[arg(long, value_parser = confidence)]
    confidence: Option<f64>,
    /// Take the timestamps of an Azure trace as releases
    #[arg(long)]
    releases: bool,
    /// tokenizer.json to count tokens of text; characters / 4, if absent
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Known token counts of JSONL requests: a CSV of custom_id and input_tokens, output_tokens or both
    #[arg(long)]
    sidecar: Option<PathBuf>,
    /// Format of all workload files; detected, if absent: csv, azure, openai-batch, class-table
    #[arg(long)]
    format: Option<Format>,
    /// What the model that a request names means: nothing, that model, or those of [map] in the jobs file
    #[arg(long, default_value = "any")]
    model_policy: ModelPolicy,
    /// Write frontier.csv and frontier.svg: the plan's energy over the range of this limit
    #[arg(long, value_enum)]
    frontier: Option<Frontier>,
    /// Say how often the plan stays the best if the models err as they may, over so many draws (200, if none is given)
    #[arg(long, value_name = "DRAWS", num_args = 0..=1, default_missing_value = "200", require_equals = true,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sensitivity: Option<u32>,
    /// Report the plan alone, or the standing power of nodes that never sleep with it
    #[arg(long, value_enum, default_value_t = Account::Plan)]
    account: Account,
    /// How models are served; the bundled file if absent
    #[arg(long)]
    engines: Option<PathBuf>,
    /// Options CSV: plan from what requests cost where, without models, cluster, workload or deadline
    #[arg(long, conflicts_with_all = [
        "models", "cluster", "workload", "jobs", "accuracy", "task", "deadline", "min_accuracy", "incumbent", "releases",
        "tokenizer", "sidecar", "format", "engines", "objective", "power_cap_w",
    ])]
    options: Option<PathBuf>,
    /// Plan directory to write: new, empty or an earlier plan
    #[arg(long)]
    out: PathBuf,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Account {
    Plan,
    WholeCluster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Baselines {
    Auto,
    All,
    None,
}

/// Requests up to which baselines are priced unasked.
const MOST_WITH_BASELINES: usize = 200_000;

pub fn run(arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let started = Instant::now();
    if let Some(threads) = arguments.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global()?;
    }
    if let Some(options) = &arguments.options {
        let request = plan_options::Request {
            options,
            out: &arguments.out,
            gap: arguments.gap,
            time_limit: arguments.time_limit,
            seed: arguments.seed,
            start: arguments.start.unwrap_or_else(now),
            json: arguments.json,
        };
        return plan_options::run(&request, output);
    }
    let request = Request::new(arguments)?;
    let line = Line::new(output.quiet);
    line.say("reading");
    let (mut inputs, left) = match &request.before {
        None => (inputs::read(&request.paths, &request.defaults, request.site, request.start)?, None),
        Some(before) => {
            let Left { inputs, served, kept, replan } = before.left()?;
            (inputs, Some((served, kept, replan)))
        }
    };
    require_accuracy(&request, &inputs)?;
    if let Some(frontier) = arguments.frontier {
        frontier.require_movable(&inputs)?;
    }
    let kept = left.as_ref().map_or(&[][..], |(_, kept, _)| kept);
    let judged = arguments.current_power.adjustment(&inputs.cluster, request.start, kept)?;
    let power_adjustment = judged.or_else(|| request.before.as_ref()?.adjustment(kept));
    if let Some(adjustment) = &power_adjustment {
        power_adjustment::apply(adjustment, &mut inputs.cluster).map_err(anyhow::Error::msg)?;
    }
    let hashes = request.paths.hashes(&inputs.series)?;
    check_target(&arguments.out)?;

    let workload = &inputs.assembled.workload;
    let options = build(&OptionsInput {
        workload,
        cluster: &inputs.cluster,
        models: &inputs.models,
        accuracy: &inputs.accuracy,
        safety: request.safety,
    })?;
    let (cluster, models, goal) = (&inputs.cluster, &inputs.models, request.site.goal);
    let problem = PlanProblem::with_goal(workload, cluster, models, &options, request.safety, goal);
    let mut warnings: Vec<String> =
        [&inputs.warnings, &inputs.assembled.warnings, &options.warnings].into_iter().flatten().cloned().collect();
    let incumbent = arguments.incumbent.as_deref().and_then(|dir| {
        incumbent::read(dir, &problem, &inputs.accuracy)
            .inspect_err(|why| warnings.push(format!("the incumbent {} is not used: {why}", dir.display())))
            .ok()
    });
    // What is left of the plan before may still be valid; that it is not is no news.
    let rest = request.before.as_ref().and_then(|before| before.rest(&problem).ok());
    let incumbent = incumbent.or_else(|| incumbent::valid(&problem, &inputs.accuracy, rest?).ok());

    let baselines = match arguments.baselines {
        Baselines::Auto => workload.requests.len() <= MOST_WITH_BASELINES && request.zeta.is_none(),
        Baselines::All => true,
        Baselines::None => false,
    };
    if !baselines && arguments.baselines == Baselines::Auto && request.zeta.is_none() {
        warnings.push("baselines are left out of so large a queue; --baselines all prices them".to_owned());
    }
    let settings = Settings { gap: arguments.gap, time_limit: arguments.time_limit, baselines };
    let (mut zeta_figures, mut zeta_scores) = (None, BTreeMap::new());
    let (verdict, baselines) = match &request.zeta {
        None => plan::plan(&problem, &settings, arguments.seed, incumbent, &mut |progress| line.show(&progress))?,
        Some(zeta) => {
            let decided = zeta::decide(&problem, zeta, &settings, arguments.seed)?;
            (zeta_figures, zeta_scores) = (decided.figures, decided.scores);
            (decided.verdict, decided.baselines)
        }
    };
    let run = |started: Instant| Run {
        jouleplan: env!("CARGO_PKG_VERSION").to_owned(),
        start: humantime::format_rfc3339_seconds(request.start).to_string(),
        wall_s: started.elapsed().as_secs_f64(),
        peak_rss_mib: peak_rss_mib(),
    };
    let plan = match verdict {
        Verdict::Planned(plan) => plan,
        Verdict::Infeasible(why) => {
            line.say("smallest relaxations");
            let found = NoPlan::infeasible(&problem, &why, arguments, started.elapsed(), &inputs);
            drop(line);
            return found.tell(&problem, &warnings, &run(started), arguments, output);
        }
        Verdict::Unknown(tried) => {
            drop(line);
            return NoPlan::unknown(&tried).tell(&problem, &warnings, &run(started), arguments, output);
        }
    };
    let what_if = WhatIf::of(&problem, &plan, &baselines, &settings, arguments, &inputs, &line)?;
    let replan = left.map(|(served, _, mut replan)| {
        replan.moved = request.before.as_ref().map_or(0, |before| before.moved(&problem, &plan.priced.schedule));
        (served, replan)
    });
    let circumstances = Circumstances {
        baselines: baselines
            .iter()
            .map(|(name, result)| {
                let priced = baseline(result);
                let objective = zeta_scores.get(name).copied().or(priced.objective);
                (name.clone(), Baseline { objective, ..priced })
            })
            .collect(),
        warnings,
        model_policy: request.defaults.model_policy.as_str().to_owned(),
        flags: request.flags(),
        inputs: hashes,
        replan: replan.as_ref().map(|(_, replan)| replan.clone()),
        power_adjustment,
        run: Run::default(),
        zeta: zeta_figures,
    };
    line.say("checking");
    require_valid(&problem, &plan, &inputs, circumstances.zeta.as_ref())?;
    line.say("writing");
    let mut json = plan_json(&problem, &plan, circumstances);
    json.run = run(started);
    let directory = DirectoryWriter::create(&arguments.out)?;
    if let (Some((served, _)), Some(replan)) = (&replan, &mut json.replan) {
        served_csv::write(directory.path(), served)?;
        replan.served_sha256 = sha256_file(&directory.path().join(SERVED_CSV))?;
    }
    write_directory(directory.path(), &json, &problem, &plan.priced, &inputs.assembled, &inputs.engines)?;
    what_if.write(directory.path())?;
    directory.commit()?;
    drop(line);
    tell(&json, &what_if, arguments, output)
}

/// A floor without figures could only end as infeasible: say what is missing instead.
fn require_accuracy(request: &Request, inputs: &Inputs) -> anyhow::Result<()> {
    let workload = &inputs.assembled.workload;
    let floors = workload.jobs.iter().any(|job| job.floor.is_some())
        || workload.groups.iter().any(|group| group.own_floor.is_some());
    if floors && request.paths.accuracy.is_none() {
        return Err(Failure::usage("there is an accuracy floor but no figures: give --accuracy A.csv"));
    }
    Ok(())
}

/// Nothing is written that fails its own check.
fn require_valid(
    problem: &PlanProblem,
    plan: &Plan,
    inputs: &Inputs,
    zeta: Option<&(f64, f64, ZetaJson)>,
) -> anyhow::Result<()> {
    let mut claims = of_schedule(problem, &plan.priced, Proof::of(plan));
    claims.zeta = zeta.map(|(objective, bound, constants)| claimed_zeta(Some(*objective), Some(*bound), constants));
    let PlanProblem { workload, cluster, models, .. } = *problem;
    let report = check(&CheckInput { workload, cluster, models, accuracy: &inputs.accuracy, plan: &claims });
    if report.is_valid() {
        return Ok(());
    }
    let shown: Vec<String> = report.violations.iter().take(20).map(ToString::to_string).collect();
    Err(anyhow::anyhow!(shown.join("\n"))).context(format!(
        "the plan fails its own check in {} places, so nothing was written; please report the inputs",
        report.violation_count()
    ))
}

fn violations(problem: &PlanProblem, priced: &Priced, proof: Proof, inputs: &Inputs) -> Report {
    let claims = of_schedule(problem, priced, proof);
    let PlanProblem { workload, cluster, models, .. } = *problem;
    check(&CheckInput { workload, cluster, models, accuracy: &inputs.accuracy, plan: &claims })
}

fn tell(plan: &PlanJson, what_if: &WhatIf, arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let whole_cluster = arguments.account == Account::WholeCluster;
    if arguments.json {
        let mut value = to_json(plan, whole_cluster, arguments)?;
        if let Some(object) = value.as_object_mut() {
            what_if.frontier.as_ref().map(|points| object.insert("frontier".into(), json!(points)));
            what_if.sensitivity.as_ref().map(|found| object.insert("sensitivity".into(), json!(found)));
        }
        return Ok(output.json(&value)?);
    }
    output.data(summary::summary(plan, whole_cluster).as_bytes())?;
    if let Some(found) = &what_if.sensitivity {
        output.data(report::sensitivity::text(found).as_bytes())?;
    }
    output.note(&format!(
        "\n{} written in {:.1} s: plan.json, instances.csv, nodes.csv, assignments.csv, jobs.csv, summary.csv, {}shards/, \
         slurm/submit.sh",
        arguments.out.display(),
        plan.run.wall_s,
        if what_if.frontier.is_some() { "frontier.csv, frontier.svg, " } else { "" }
    ));
    Ok(())
}

/// plan.json without what only its readers need, and with this run's figures beside the plan's.
fn to_json(plan: &PlanJson, whole_cluster: bool, arguments: &Arguments) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(plan)?;
    if let Some(object) = value.as_object_mut() {
        for key in ["deployments", "inputs", "run"] {
            object.shift_remove(key);
        }
        object.insert("standby_j".into(), json!(plan.standby_j));
        if whole_cluster {
            object.insert("whole_cluster_j".into(), json!(plan.standby_j.map(|standby| plan.objective_j + standby)));
        }
        object.insert("wall_s".into(), json!(plan.run.wall_s));
        object.insert("peak_rss_mib".into(), json!(plan.run.peak_rss_mib));
        object.insert("out".into(), json!(arguments.out));
    }
    Ok(value)
}

/// Most memory the process has held, where the system says so.
pub fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
