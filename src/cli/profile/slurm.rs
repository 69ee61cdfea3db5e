//! `profile --slurm`: the scripts of job arrays that measure every model on every pool.

use super::super::arguments::read_engines;
use super::super::exit::Failure;
use super::super::output::Output;
use super::arguments::StudyArguments;
use crate::domain::Engine;
use crate::formats::{cluster_toml, devices_toml};
use crate::report::text::count;
use crate::slurm::SlurmError;
use crate::slurm::profile_array::{self, ArrayModel, ArrayStudy};

pub fn run(arguments: &StudyArguments, output: &Output) -> anyhow::Result<()> {
    let names = arguments.models()?;
    arguments.cells()?;
    let Some(path) = &arguments.cluster else { return Err(Failure::usage("--slurm: name the cluster with --cluster")) };
    let cluster = cluster_toml::read(path, &devices_toml::builtin())?.cluster;
    let engines = read_engines(arguments.engines.as_deref())?;
    let models = models(arguments, &names, &engines)?;
    let replicas = arguments.data_parallel.saturating_mul(arguments.pipeline_parallel);
    let tensor_parallel = arguments.tensor_parallel.unwrap_or(1);
    let longest = |lengths: &[u32]| lengths.iter().copied().max().unwrap_or(1);
    let study = ArrayStudy {
        cluster: &cluster,
        models,
        arguments: repeated(arguments),
        devices: tensor_parallel.saturating_mul(replicas),
        tensor_parallel,
        max_batch: longest(&arguments.batch),
        longest_tokens: longest(&arguments.grid_input).saturating_add(longest(&arguments.grid_output)),
        budget_minutes: arguments.budget.map(|budget| budget.as_secs().div_ceil(60)),
    };
    let written = profile_array::write(&arguments.out, &study).map_err(|error| match error {
        SlurmError::Write(error) => anyhow::Error::from(error),
        error => Failure::bad_data(error.to_string()),
    })?;
    if written.is_empty() {
        return Err(Failure::bad_data(format!("{}: no pool has {} devices a node", path.display(), study.devices)));
    }
    let scripts = count(written.len() as u64, "job array");
    let tasks = count(study.models.len() as u64, "task");
    let out = arguments.out.display();
    output.note(&format!(
        "{scripts} of {tasks} in {out}; {out}/submit.sh submits, `jouleplan profile merge {out}/*.csv --out samples.csv` gathers"
    ));
    Ok(())
}

/// Each model with its precision, and what serves it unless a command does.
fn models<'a>(
    arguments: &'a StudyArguments,
    names: &[&'a str],
    engines: &'a [Engine],
) -> anyhow::Result<Vec<ArrayModel<'a>>> {
    let mut found = Vec::new();
    let mut lacking = Vec::new();
    for &model in names {
        let asked = |engine: &&Engine| {
            engine.model == model && arguments.precision.as_ref().is_none_or(|precision| *precision == engine.precision)
        };
        let known: Vec<&Engine> = engines.iter().filter(asked).collect();
        match (known.as_slice(), arguments.has_command(), &arguments.precision) {
            ([engine], has_command, _) => found.push(ArrayModel {
                model,
                precision: &engine.precision,
                engine: (!has_command).then_some(*engine),
            }),
            (_, true, Some(precision)) => found.push(ArrayModel { model, precision, engine: None }),
            ([], ..) => lacking.push(format!("engines.toml has no entry for {model}")),
            (several, ..) => {
                let precisions: Vec<&str> = several.iter().map(|engine| engine.precision.as_str()).collect();
                lacking.push(format!("{model} comes in {}; say which with --precision", precisions.join(" and ")));
            }
        }
    }
    if lacking.is_empty() { Ok(found) } else { Err(Failure::usage(lacking.join("\n"))) }
}

/// The arguments that every task has, in words.
fn repeated(arguments: &StudyArguments) -> Vec<String> {
    let list = |values: &[u32]| values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let time = |time: std::time::Duration| format!("{}ms", time.as_millis());
    let mut words: Vec<String> = vec![
        format!("--grid-input={}", list(&arguments.grid_input)),
        format!("--grid-output={}", list(&arguments.grid_output)),
        format!("--batch={}", list(&arguments.batch)),
        format!("--ci={}", arguments.ci),
        format!("--max-trials={}", arguments.max_trials),
        format!("--warmup={}", arguments.warmup),
        format!("--cool-down={}", time(arguments.cool_down)),
        format!("--idle={}", time(arguments.idle)),
        format!("--least-time={}", time(arguments.least_time)),
        format!("--timeout={}", time(arguments.timeout)),
        format!("--interval={}", time(arguments.interval)),
        format!("--expert-parallel={}", arguments.expert_parallel),
        format!("--data-parallel={}", arguments.data_parallel),
        format!("--pipeline-parallel={}", arguments.pipeline_parallel),
    ];
    let optional = [
        ("clock", (!arguments.clock.is_empty()).then(|| list(&arguments.clock))),
        ("budget", arguments.budget.map(time)),
        ("suggest", arguments.suggest.map(|count| count.to_string())),
        ("seed", arguments.seed.map(|seed| seed.to_string())),
        ("tensor-parallel", arguments.tensor_parallel.map(|degree| degree.to_string())),
        ("meters", arguments.meters.as_ref().map(|meters| meters.join(","))),
        ("engine", arguments.engine.clone()),
        ("engine-version", arguments.engine_version.clone()),
        ("command", arguments.command.clone()),
    ];
    words.extend(optional.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?))));
    let flags = [
        ("--no-kv-cache", arguments.no_kv_cache),
        ("--runtime-only", arguments.runtime_only),
        ("--chat", arguments.chat),
    ];
    words.extend(flags.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name.to_owned()));
    words
}
