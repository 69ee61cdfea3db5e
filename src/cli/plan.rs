//! `plan`: reads everything, solves, checks the plan before anything is written, writes the plan directory, reports.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::arguments::{duration, fraction, instant, is_stdin, margin, percent, power_cap};
use super::exit::{Failure, INFEASIBLE};
use super::incumbent;
use super::inputs::{self, Inputs, Paths, SiteFlags};
use super::output::Output;
use super::progress::Line;
use crate::check::{CheckInput, check};
use crate::domain::Goal;
use crate::formats::plan_json::{Flags, PlanJson, Run, SCHEMA_VERSION};
use crate::formats::workload::{Defaults, Format, ModelPolicy};
use crate::formats::write::{DirectoryWriter, check_target};
use crate::options::{OptionsInput, build};
use crate::plan::{self, Plan, PlanProblem, Settings, Verdict};
use crate::report::claims::{Proof, of_schedule};
use crate::report::plan_json::{Circumstances, baseline, plan_json};
use crate::report::tables::write_directory;
use crate::report::{infeasible, summary};
use crate::units::Watts;

/// Decide which request runs where and when, on the fewest joules
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Models files (jouleplan fit)
    #[arg(long, required = true, num_args = 1..)]
    models: Vec<PathBuf>,
    /// Cluster file
    #[arg(long)]
    cluster: PathBuf,
    /// Workload files: CSV, Azure trace, OpenAI batch JSONL or class table
    #[arg(long, required = true, num_args = 1..)]
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
    /// What to minimise; carbon and cost need carbon_csv or price_csv in the cluster file's [site]
    #[arg(long, value_enum, default_value_t = Objective::Energy)]
    objective: Objective,
    /// Most watts the whole cluster may draw at any instant, in place of the cluster file's cap
    #[arg(long, value_name = "W", value_parser = power_cap)]
    power_cap_w: Option<f64>,
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
    /// Price simpler policies beside the plan; auto leaves them out of queues of more than 200,000 requests, where they
    /// take longer than the plan
    #[arg(long, value_enum, default_value_t = Baselines::Auto)]
    baselines: Baselines,
    /// Margin on predicted seconds: 0.1 adds 10 %
    #[arg(long, default_value = "0.10", value_parser = margin)]
    safety: f64,
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
    /// Report the plan alone, or the standing power of nodes that never sleep with it
    #[arg(long, value_enum, default_value_t = Account::Plan)]
    account: Account,
    /// How models are served; the bundled file if absent
    #[arg(long)]
    engines: Option<PathBuf>,
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
enum Objective {
    /// Joules
    Energy,
    /// Grams of CO2
    Carbon,
    /// Money
    Cost,
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
    let request = Request::new(arguments)?;
    if let Some(threads) = arguments.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global()?;
    }
    let line = Line::new(output.quiet);
    line.say("reading");
    let inputs = inputs::read(&request.paths, &request.defaults, request.site, request.start)?;
    require_accuracy(arguments, &inputs)?;
    let hashes = request.paths.hashes(&inputs.series)?;
    check_target(&arguments.out)?;

    let workload = &inputs.assembled.workload;
    let options = build(&OptionsInput {
        workload,
        cluster: &inputs.cluster,
        models: &inputs.models,
        accuracy: &inputs.accuracy,
        safety: arguments.safety,
    })?;
    let (cluster, models, goal) = (&inputs.cluster, &inputs.models, request.site.goal);
    let problem = PlanProblem::with_goal(workload, cluster, models, &options, arguments.safety, goal);
    let mut warnings: Vec<String> =
        [&inputs.warnings, &inputs.assembled.warnings, &options.warnings].into_iter().flatten().cloned().collect();
    let incumbent = arguments.incumbent.as_deref().and_then(|dir| {
        incumbent::read(dir, &problem, &inputs.accuracy)
            .inspect_err(|why| warnings.push(format!("the incumbent {} is not used: {why}", dir.display())))
            .ok()
    });

    let baselines = match arguments.baselines {
        Baselines::Auto => workload.requests.len() <= MOST_WITH_BASELINES,
        Baselines::All => true,
        Baselines::None => false,
    };
    if !baselines && arguments.baselines == Baselines::Auto {
        warnings.push("baselines are left out of so large a queue; --baselines all prices them".to_owned());
    }
    let settings = Settings { gap: arguments.gap, time_limit: arguments.time_limit, baselines };
    let (verdict, baselines) =
        plan::plan(&problem, &settings, arguments.seed, incumbent, &mut |progress| line.show(&progress))?;
    let run = |started: Instant| Run {
        jouleplan: env!("CARGO_PKG_VERSION").to_owned(),
        start: humantime::format_rfc3339_seconds(request.start).to_string(),
        wall_s: started.elapsed().as_secs_f64(),
        peak_rss_mib: peak_rss_mib(),
    };
    let plan = match verdict {
        Verdict::Planned(plan) => plan,
        Verdict::Infeasible(why) => {
            drop(line);
            let why = infeasible::words(&problem, &why);
            return no_plan("infeasible", &why, &problem, &warnings, &run(started), arguments, output);
        }
        Verdict::Unknown(tried) => {
            drop(line);
            let why = format!("{tried}; neither a plan nor a proof that there is none was found");
            return no_plan("unknown", &why, &problem, &warnings, &run(started), arguments, output);
        }
    };
    let circumstances = Circumstances {
        baselines: baselines.iter().map(|(name, result)| (name.clone(), baseline(result))).collect(),
        warnings,
        model_policy: request.defaults.model_policy.as_str().to_owned(),
        flags: request.flags(),
        inputs: hashes,
        run: Run::default(),
    };
    line.say("checking");
    require_valid(&problem, &plan, &inputs)?;
    line.say("writing");
    let mut json = plan_json(&problem, &plan, circumstances);
    json.run = run(started);
    let directory = DirectoryWriter::create(&arguments.out)?;
    write_directory(directory.path(), &json, &problem, &plan.priced, &inputs.assembled.files, &inputs.engines)?;
    directory.commit()?;
    drop(line);
    report(&json, arguments, output)
}

/// The command line as the library's own types.
struct Request {
    paths: Paths,
    defaults: Defaults,
    site: SiteFlags,
    start: SystemTime,
}

impl Request {
    fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        let now = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            // Whole seconds, as plan.json will state it: instants in the jobs file then mean the same to `check`.
            SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
        };
        let start = arguments.start.unwrap_or_else(now);
        let parse = |text: &String| {
            crate::formats::duration::parse_point(text, start)
                .map_err(|error| Failure::usage(format!("--deadline: {error}")))
        };
        let deadline = arguments.deadline.as_ref().map(parse).transpose()?;
        if deadline.is_some_and(|deadline| deadline.0 <= 0.0) {
            return Err(Failure::usage("--deadline: it is the start of the plan; give a later one, for example 8h"));
        }
        let paths = Paths {
            models: arguments.models.clone(),
            cluster: arguments.cluster.clone(),
            workload: arguments.workload.clone(),
            jobs: arguments.jobs.clone(),
            accuracy: arguments.accuracy.clone(),
            engines: arguments.engines.clone(),
            tokenizer: arguments.tokenizer.clone(),
            sidecar: arguments.sidecar.clone(),
        };
        if paths.roles().iter().any(|(_, path)| is_stdin(path)) {
            return Err(Failure::usage("plan cannot read stdin: it reads its inputs more than once and records them"));
        }
        let defaults = Defaults {
            deadline,
            min_accuracy: arguments.min_accuracy,
            task: arguments.task.clone(),
            model_policy: arguments.model_policy,
            releases: arguments.releases,
            tokenizer: arguments.tokenizer.clone(),
            sidecar: arguments.sidecar.clone(),
            format: arguments.format,
        };
        let goal = match arguments.objective {
            Objective::Energy => Goal::Energy,
            Objective::Carbon => Goal::Carbon,
            Objective::Cost => Goal::Cost,
        };
        let site = SiteFlags { goal, power_cap: arguments.power_cap_w.map(Watts) };
        Ok(Self { paths, defaults, site, start })
    }

    fn flags(&self) -> Flags {
        Flags {
            deadline_s: self.defaults.deadline.map(|deadline| deadline.0),
            min_accuracy: self.defaults.min_accuracy,
            task: self.defaults.task.clone(),
            releases: self.defaults.releases,
            format: self.defaults.format.map(|format| format.to_string()),
            objective: Some(self.site.goal).filter(|goal| *goal != Goal::Energy).map(|goal| goal.name().to_owned()),
            power_cap_w: self.site.power_cap.map(|cap| cap.0),
        }
    }
}

/// A floor without figures could only end as infeasible: say what is missing instead.
fn require_accuracy(arguments: &Arguments, inputs: &Inputs) -> anyhow::Result<()> {
    let workload = &inputs.assembled.workload;
    let floors = workload.jobs.iter().any(|job| job.floor.is_some())
        || workload.groups.iter().any(|group| group.own_floor.is_some());
    if floors && arguments.accuracy.is_none() {
        return Err(Failure::usage("there is an accuracy floor but no figures: give --accuracy A.csv"));
    }
    Ok(())
}

/// Nothing is written that fails its own check.
fn require_valid(problem: &PlanProblem, plan: &Plan, inputs: &Inputs) -> anyhow::Result<()> {
    let claims = of_schedule(problem, &plan.priced, Proof::of(plan));
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

fn no_plan(
    status: &str,
    why: &str,
    problem: &PlanProblem,
    warnings: &[String],
    run: &Run,
    arguments: &Arguments,
    output: &Output,
) -> anyhow::Result<()> {
    if arguments.json {
        output.json(&json!({
            "schema_version": SCHEMA_VERSION,
            "status": status,
            "reason": why,
            "requests": problem.workload.requests.len(),
            "wall_s": run.wall_s,
            "peak_rss_mib": run.peak_rss_mib,
            "warnings": warnings,
        }))?;
    } else {
        output.note(&summary::warnings(warnings, "with --json"));
    }
    Err(Failure { code: INFEASIBLE, message: format!("{status}: {why}") }.into())
}

fn report(plan: &PlanJson, arguments: &Arguments, output: &Output) -> anyhow::Result<()> {
    let whole_cluster = arguments.account == Account::WholeCluster;
    if arguments.json {
        return Ok(output.json(&to_json(plan, whole_cluster, arguments)?)?);
    }
    output.data(summary::summary(plan, whole_cluster).as_bytes())?;
    output.note(&format!(
        "\n{} written in {:.1} s: plan.json, instances.csv, nodes.csv, assignments.csv, jobs.csv, summary.csv, shards/, \
         slurm/submit.sh",
        arguments.out.display(),
        plan.run.wall_s
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
fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
