//! Carbon and power caps on real hours: California's grid in 2022 and a day of slack for the Azure conversation trace.
//!
//! The lower bound is computed here, from nothing but rates and hours: for every set of deployments, their starts and
//! each request at its cheapest among them, all in the least intensive hour before the deadline.

mod reference_data;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jouleplan::check::{CheckInput, check};
use jouleplan::domain::{Cluster, FamilyModel, Goal, Steps, Workload};
use jouleplan::formats::duration::parse_instant;
use jouleplan::formats::site_csv::{SiteSeries, read};
use jouleplan::formats::workload::{Defaults, assemble};
use jouleplan::formats::{cluster_toml, devices_toml, models_json};
use jouleplan::options::{Options, OptionsInput, build};
use jouleplan::plan::{Plan, PlanProblem, Settings, Verdict, solve};
use jouleplan::report::claims::{Proof, of_schedule};
use jouleplan::units::Seconds;
use reference_data::reference;

const CLUSTER: &str = r#"
[[pool]]
name = "h100"
nodes = "n[1-2]"
device = "H100"
devices_per_node = 4
base_power_w = 900
[site]
pue = 1.2
"#;
const DAY: f64 = 86_400.0;

#[test]
fn a_day_of_slack_is_spent_in_the_cleanest_hours() {
    let Some(hours) = hours() else { return };
    for start in ["2022-02-10T02:00:00Z", "2022-06-15T00:00:00Z", "2022-09-06T09:30:00Z"] {
        let queue = Queue::new(&hours, start);
        let plan = queue.plan(Goal::Carbon);
        let (bound, grams) = (queue.least_grams(), plan.priced.objective());
        assert!(grams >= bound * (1.0 - 1e-9), "{start}: {grams} g below {bound} g");
        assert!(grams <= 1.02 * bound, "{start}: {grams} g against at least {bound} g");
        let at_once = queue.grams_at(&queue.plan(Goal::Energy));
        assert!(grams < at_once, "{start}: {grams} g, and {at_once} g without waiting");
    }
}

#[test]
fn a_power_cap_holds_at_every_instant() {
    let Some(hours) = hours() else { return };
    let mut queue = Queue::new(&hours, "2022-06-15T00:00:00Z");
    let standing = 2.0 * (900.0 + 4.0 * queue.cluster.pools[0].idle_power.value.0);
    // Room for one instance, and from the fifteenth hour on for two.
    let cap = Steps::new(&[(0.0, standing + 700.0), (14.5 * 3600.0, standing + 1300.0)], f64::INFINITY);
    queue.cluster.site.power_cap = cap;
    for goal in [Goal::Energy, Goal::Carbon] {
        let plan = queue.plan(goal);
        let problem = queue.options();
        let peak = |v: usize| problem.deployments[v].peak_power.unwrap().0 - problem.deployments[v].idle_power.0;
        let instances = &plan.priced.schedule.instances;
        let cap = queue.cluster.site.power_cap.as_ref().unwrap();
        for at in instances.iter().map(|instance| instance.start.0).chain([0.0, 14.5 * 3600.0]) {
            let alive = instances.iter().filter(|instance| instance.start.0 <= at && at < instance.end.0);
            let drawn: f64 = standing + alive.map(|instance| peak(instance.deployment)).sum::<f64>();
            assert!(drawn <= cap.at(at) + 1e-6, "{goal:?}: {drawn} W at {at} s");
        }
    }
}

/// The hours as the planner reads them.
fn hours() -> Option<tempfile::NamedTempFile> {
    let path = reference("carbon/us_grids_2022/CISO.csv")?;
    let mut text = String::from("timestamp,gco2_per_kwh\n");
    for line in fs::read_to_string(path).unwrap().lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        text.push_str(&format!("{},{}\n", cells[0], cells.last().unwrap()));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    Some(file)
}

struct Queue {
    workload: Workload,
    cluster: Cluster,
    models: Vec<FamilyModel>,
}

impl Queue {
    fn new(hours: &tempfile::NamedTempFile, start: &str) -> Self {
        let trace = reference("workloads/AzureLLMInferenceTrace_conv.csv").unwrap();
        let defaults = Defaults { deadline: Some(Seconds(DAY)), ..Defaults::default() };
        let workload = assemble(&[trace], None, &defaults).unwrap().workload;
        let mut cluster =
            cluster_toml::parse(CLUSTER, Path::new("cluster.toml"), &devices_toml::builtin()).unwrap().cluster;
        let start: SystemTime = parse_instant(start).unwrap();
        cluster.site.carbon = Some(read(hours.path(), SiteSeries::Carbon, start).unwrap());
        let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/models.json");
        let mut models = models_json::read(&bundled).unwrap();
        models.retain(|model| model.key.device == "H100" && model.key.model.starts_with("Qwen/Qwen3-8B"));
        Self { workload, cluster, models }
    }

    fn options(&self) -> Options {
        let Self { workload, cluster, models, .. } = self;
        build(&OptionsInput { workload, cluster, models, accuracy: &Default::default(), safety: 0.1 }).unwrap()
    }

    /// Solved and checked.
    fn plan(&self, goal: Goal) -> Plan {
        let Self { workload, cluster, models } = self;
        let options = self.options();
        let problem = PlanProblem::with_goal(workload, cluster, models, &options, 0.1, goal);
        let settings = Settings { time_limit: Duration::from_secs(10), baselines: false, ..Settings::default() };
        let verdict = solve(&problem, &settings, None, &mut |_| {}).unwrap();
        let Verdict::Planned(plan) = verdict else { panic!("{verdict:?}") };
        let claims = of_schedule(&problem, &plan.priced, Proof::of(&plan));
        let report = check(&CheckInput { workload, cluster, models, accuracy: &Default::default(), plan: &claims });
        assert!(report.is_valid(), "{:#?}", report.violations);
        *plan
    }

    fn grams_at(&self, plan: &Plan) -> f64 {
        let options = self.options();
        let Self { workload, cluster, models } = self;
        let problem = PlanProblem::with_goal(workload, cluster, models, &options, 0.1, Goal::Carbon);
        jouleplan::plan::price::price(&problem, plan.priced.schedule.clone()).objective()
    }

    fn least_grams(&self) -> f64 {
        let options = self.options();
        let deployments = &options.deployments;
        assert!((1..=12).contains(&deployments.len()), "{} deployments", deployments.len());
        // Requests of equal lengths cost the same everywhere.
        let mut lengths: BTreeMap<(u32, u32), f64> = BTreeMap::new();
        let requests = &self.workload.requests;
        for (&input, &output) in requests.input_tokens.iter().zip(&requests.output_tokens) {
            *lengths.entry((input, output)).or_default() += 1.0;
        }
        let costs: Vec<(f64, Vec<f64>)> = lengths
            .into_iter()
            .map(|((i, o), count)| {
                let cost = |d: &jouleplan::domain::Deployment| {
                    if d.fits(i, o) { d.rates.energy(i, o) } else { f64::INFINITY }
                };
                (count, deployments.iter().map(cost).collect())
            })
            .collect();
        let joules = (1u32..1 << deployments.len()).map(|set| {
            let chosen: Vec<usize> = (0..deployments.len()).filter(|v| set >> v & 1 == 1).collect();
            let starts: f64 = chosen.iter().map(|&v| deployments[v].start_energy().0).sum();
            let least = |costs: &Vec<f64>| chosen.iter().map(|&v| costs[v]).fold(f64::INFINITY, f64::min);
            starts + costs.iter().map(|(count, costs)| count * least(costs)).sum::<f64>()
        });
        let cleanest = self.cluster.site.carbon.as_ref().unwrap().iter();
        let cleanest =
            cleanest.filter(|(second, _)| *second < DAY).map(|(_, grams)| grams).fold(f64::INFINITY, f64::min);
        joules.fold(f64::INFINITY, f64::min) * 1.2 * cleanest / 3.6e6
    }
}
