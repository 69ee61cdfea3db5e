//! An offline planner for batch LLM inference: which request runs on which model, device and batch size, and when, so that
//! a queue meets its deadlines and accuracy floors on the fewest joules.
//!
//! This page is for whoever reads or changes the code. Users start with README.md, or `jouleplan help`.
//!
//! # Bird's-eye view
//!
//! ```text
//! samples CSV --fit--> models JSON --+
//!                   cluster TOML ----+--options--> deployments --plan--> schedule, bound --check--> plan directory,
//!        workload, jobs, accuracy ---+                                                             shards, Slurm scripts
//! ```
//!
//! A *sample* says what a request cost on a device at a batch size. `fit` turns the samples of a *family* (model, precision,
//! devices, parallel degrees, engine) into energy and busy time per request, linear in features of its two lengths. `options`
//! puts each family at each measured batch into each pool that has the device: a *deployment*, six coefficients and a few
//! constants. `plan` decides how many *instances* of which deployment run where and when, and which of them serves each
//! request. `check` computes all of it again. `report` and `slurm` write down what was decided.
//!
//! # Code map
//!
//! In the order in which modules may import each other: only to the left, which here is upwards.
//!
//! | module | is | begin with |
//! |---|---|---|
//! | [`units`] | joules, watts, seconds, bytes as types | |
//! | [`domain`] | requests, jobs, clusters, models, deployments, schedules: plain values and the rules they carry | [`domain::deployment`] |
//! | [`stats`] | least squares with tests and intervals, non-negative least squares, bootstrap, cross-validation, scores | |
//! | [`formats`] | one file an external format, read and written; every problem of a file at once | [`formats::problems`] |
//! | [`measure`] | meters, a sampler, a command's energy, operating points that are always undone, studies cell by cell | [`measure::session`], [`measure::profile`] |
//! | [`fit`] | samples to models: what samples identify is fitted, the rest estimated from hardware and marked | [`fit::fit`] |
//! | [`telemetry`] | power over time: energy of traces and their gaps, fixed steps, recording | [`telemetry::energy`] |
//! | [`forecast`] | the power of the next minute with quantiles, how far each forecaster is off, who is busy now | [`forecast::Forecaster`], [`forecast::current`] |
//! | [`options`] | the deployments a queue may use, and who may use which | [`options::build`] |
//! | [`plan`] | relaxation, bound, whole instances, placement, baselines | [`plan::solve()`] |
//! | [`check`] | a plan verified from first principles, a rule a file | [`check::check`] |
//! | [`slurm`] | scripts of a plan, and running them: submit, status, collect, reconcile; inventory | |
//! | [`report`] | plan.json, tables, explanations and text, from a plan and its problem; the quality report of a fit | |
//! | [`cli`] | one file a verb | [`cli::run`] |
//!
//! # How a plan comes about
//!
//! [`plan::plan`] first prices the baselines. [`plan::solve()`] then merges like requests into classes and solves a relaxation
//! over them by column generation. Its prices go through one pass over the single requests, which gives a bound. Requests
//! are charged for whole starts, and deployments whose start is worth a part of the gap are branched on; a small master
//! problem over instances, starts and wakes collects such passes as cuts and knows whole instances. The relaxation's shares
//! become a deployment for each request, and [`plan::place`](mod@plan::place) makes instances of them: on concrete
//! devices, with finish times by list scheduling. What is late or finds no room is planned again, tighter. Bound and plan
//! improve each other until the gap or the time limit is met.
//!
//! # Invariants
//!
//! The first seven are tested by `tests/architecture.rs`, the others by the tests of their modules.
//!
//! * Modules import only to their left. `plan` and `check` do not know `formats`: the maths sees no file, no flag, no Slurm.
//! * `domain` has no serde and does no I/O. What a file looks like is the business of `formats` alone.
//! * `check` never imports `plan`. It shares types with it and no arithmetic, so one mistake would have to be made twice.
//! * Only `cli` prints, exits, knows clap or uses anyhow. Everything else returns typed errors.
//! * No unsafe code (the fake NVML of the tests is a C library and has some).
//! * Every file opens with what it is and what it leaves out.
//! * Only `measure` touches hardware, and every root of it (NVML's library, sysfs, the process table) is an argument.
//! * The bound comes only out of computations over single requests, and the objective only out of placed schedules. Classes, the
//!   relaxation and the search guide both and are part of neither: a poor guess costs quality, never truth.
//! * Constants of a deployment (rates, load, tail, memory) are fixed before solving and written to plan.json. Plan, bound and
//!   check charge the same ones.
//! * Unknown is absent, never 0. Every figure says whether it is measured, imported, estimated or missing.
//! * Equal inputs give equal bytes, but for the `run` object of plan.json, as long as the time limit does not end the search.
//! * Whatever fails leaves no output behind, but for measurements, which keep what was measured until then. No input makes the
//!   program panic.
//!
//! # Deliberately absent
//!
//! Nothing here watches or serves, and no device is shared between models. No clock is set but by a flag of `meter` or `profile`,
//! and that one is undone. Nothing is downloaded: the device table, the engines and the data-set lengths of `profiles/` are compiled
//! in. There is no configuration file and no environment variable that changes a plan: what a plan depends on is in its
//! directory, by hash.
//!
//! # Example
//!
//! What a request of 1,000 tokens in and 200 out costs at a batch of 64, by a model of two terms: a joule for every 100 tokens
//! of the prompt, and 60 joules a step, which the batch shares.
//!
//! ```
//! use jouleplan::domain::Feature;
//!
//! let (input, output, batch) = (1000.0, 200.0, 64.0);
//! let joules = 0.01 * Feature::Input.value(input, output, batch) + 60.0 * Feature::OutputPerBatch.value(input, output, batch);
//! assert_eq!(joules, 10.0 + 187.5);
//! ```

pub mod check;
pub mod cli;
pub mod domain;
pub mod fit;
pub mod forecast;
pub mod formats;
pub mod measure;
pub mod options;
pub mod plan;
pub mod report;
pub mod slurm;
pub mod stats;
pub mod telemetry;
pub mod units;
