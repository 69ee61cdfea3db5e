//! Deadlines that hold with a confidence where outputs are predicted: lengths are drawn, the instances' list schedules
//! run, and each deadline is met at least as often as was promised. Without margins it is not.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use jouleplan::check::{CheckInput, Rule, check};
use jouleplan::domain::{AccuracyTable, Cluster, FamilyModel, Workload};
use jouleplan::formats::workload::{Defaults, assemble};
use jouleplan::formats::{cluster_toml, devices_toml, models_json};
use jouleplan::options::{OptionsInput, build};
use jouleplan::plan::price::Priced;
use jouleplan::plan::{PlanProblem, Settings, Verdict, list_schedule, solve};
use jouleplan::report::claims::{Proof, of_schedule};
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;

const CONFIDENCE: f64 = 0.9;
const KNOWN: usize = 60;
const UNKNOWN: usize = 900;
const MOST: u32 = 1500;
const DRAWS: usize = 100;
const CLUSTER: &str = "[[pool]]\nname = \"gpu\"\nnodes = \"gpu1\"\ndevice = \"H100\"\ndevices_per_node = 4\n\
                       device_memory_gib = 80\nidle_power_w = 70\nbase_power_w = 900\n";

/// Log-normal with a mean of about 300 tokens, cut at `MOST`.
fn length(rng: &mut ChaCha8Rng) -> u32 {
    let (u, v): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random());
    let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
    (5.3 + 0.9 * normal).exp().clamp(1.0, f64::from(MOST)) as u32
}

/// A third of the requests is due after `soon` seconds, the others after `late`.
fn queue(seed: u64, soon: f64, late: f64) -> Workload {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut text = "input_tokens,output_tokens,max_tokens,deadline_s\n".to_owned();
    for row in 0..KNOWN + UNKNOWN {
        let due = if row % 3 == 0 { soon } else { late };
        let input = rng.random_range(50..2000);
        let output = if row < KNOWN { length(&mut rng).to_string() } else { String::new() };
        writeln!(text, "{input},{output},{MOST},{due}").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.csv");
    fs::write(&path, text).unwrap();
    let defaults = Defaults { confidence: Some(CONFIDENCE), ..Defaults::default() };
    assemble(&[path], None, &defaults).unwrap().workload
}

struct Site {
    cluster: Cluster,
    models: Vec<FamilyModel>,
}

impl Site {
    fn new() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/models.json");
        let wanted = |model: &FamilyModel| model.key.model == "Qwen/Qwen3-8B" && model.key.device == "H100";
        Self {
            cluster: cluster_toml::parse(CLUSTER, Path::new("cluster.toml"), &devices_toml::builtin()).unwrap().cluster,
            models: models_json::read(&path).unwrap().into_iter().filter(wanted).collect(),
        }
    }

    /// The plan of a queue, and how many of the draws meet each deadline; `None` if none was found.
    fn plan(&self, workload: &Workload, rng: &mut ChaCha8Rng) -> Option<(Priced, Report, BTreeMap<u64, usize>)> {
        let accuracy = AccuracyTable::default();
        let (cluster, models) = (&self.cluster, &self.models[..]);
        let input = OptionsInput { workload, cluster, models, accuracy: &accuracy, safety: 0.0 };
        let options = build(&input).unwrap();
        let problem = PlanProblem::new(workload, cluster, models, &options, 0.0);
        let settings = Settings { gap: 0.05, time_limit: Duration::from_secs(2), baselines: false };
        let Ok(Verdict::Planned(plan)) = solve(&problem, &settings, None, &mut |_| {}) else { return None };
        let mut met = BTreeMap::new();
        for _ in 0..DRAWS {
            for (deadline, last) in realised(&problem, &plan.priced, rng) {
                *met.entry(deadline).or_default() += usize::from(last <= f64::from_bits(deadline));
            }
        }
        let claims = of_schedule(&problem, &plan.priced, Proof::of(&plan));
        // Judged by the spread, whether or not the plan knew of it.
        let judged = |workload| check(&CheckInput { workload, cluster, models, accuracy: &accuracy, plan: &claims });
        Some((plan.priced, Report { claims: claims.clone(), valid: judged(workload).is_valid() }, met))
    }
}

struct Report {
    claims: jouleplan::check::ClaimedPlan,
    valid: bool,
}

/// When the last request of each deadline is done, with lengths drawn for those that are predicted.
fn realised(problem: &PlanProblem, priced: &Priced, rng: &mut ChaCha8Rng) -> BTreeMap<u64, f64> {
    let schedule = &priced.schedule;
    let mut last: BTreeMap<u64, f64> = BTreeMap::new();
    for (index, instance) in schedule.instances.iter().enumerate() {
        let mut requests: Vec<u32> = (0..schedule.assignment.len() as u32)
            .filter(|&r| schedule.assignment[r as usize] == index as u32)
            .collect();
        let rates = problem.rates_for(instance.deployment, requests.len());
        list_schedule::sort(problem, &rates, &mut requests);
        let open = instance.start.0 + problem.deployments()[instance.deployment].load_time.0;
        let mut free: BinaryHeap<Reverse<u64>> = (0..rates.slots()).map(|_| Reverse(open.to_bits())).collect();
        for request in requests {
            let (input, known) = problem.lengths(request as usize);
            let output = if (request as usize) < KNOWN { known } else { length(rng) };
            let Reverse(at) = free.pop().unwrap();
            let finish = f64::from_bits(at) + rates.slot_seconds(input, output);
            free.push(Reverse(finish.to_bits()));
            let deadline = problem.kinds[problem.kind_of(request as usize)].deadline;
            let entry = last.entry(deadline.to_bits()).or_insert(0.0);
            *entry = entry.max(finish);
        }
    }
    last
}

#[test]
fn drawn_lengths_meet_deadlines_as_often_as_promised() {
    let site = Site::new();
    let (mut met, mut promised, mut unprotected, mut found) = (0, 0, 0, 0);
    for seed in 0..4 {
        let mut rng = ChaCha8Rng::seed_from_u64(1000 + seed);
        let (soon, late) = (110.0 + 20.0 * seed as f64, 170.0 + 25.0 * seed as f64);
        // The means alone, without margins, where time is short.
        let workload = queue(seed, 0.8 * soon, 0.8 * late);
        assert!(workload.output_spread.as_ref().is_some_and(|spread| spread.variance[KNOWN] > 0.0));
        let bare = Workload { output_spread: None, ..workload.clone() };
        if let Some((_, report, counts)) = site.plan(&bare, &mut rng) {
            assert!(report.valid);
            let accuracy = AccuracyTable::default();
            let (workload, cluster, models) = (&workload, &site.cluster, &site.models[..]);
            let judged = check(&CheckInput { workload, cluster, models, accuracy: &accuracy, plan: &report.claims });
            assert!(!judged.breaks(Rule::Deadline));
            let missed = counts.values().any(|&met| (met as f64) < CONFIDENCE * DRAWS as f64);
            assert!(!missed || judged.breaks(Rule::Confidence), "seed {seed}: misses that the check does not see");
            found += usize::from(judged.breaks(Rule::Confidence));
            unprotected += usize::from(missed);
        }

        let Some((_, report, counts)) = site.plan(&queue(seed, soon, late), &mut rng) else { continue };
        assert!(report.valid, "seed {seed}");
        for count in counts.into_values() {
            // Far below the promise even for so few draws: three standard deviations.
            assert!(count as f64 >= (CONFIDENCE - 0.09) * DRAWS as f64, "seed {seed}: {count} of {DRAWS}");
            met += count;
            promised += DRAWS;
        }
    }
    assert!(met as f64 >= CONFIDENCE * promised as f64, "{met} of {promised}");
    eprintln!("{met} of {promised} deadlines met; without margins {unprotected} plans of {found} refused ones miss");
    assert!(promised >= 4 * DRAWS && unprotected > 0 && found > 0, "{promised} {unprotected} {found}");
}
