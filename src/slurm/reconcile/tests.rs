use std::fs;

use serde_json::{Value, json};

use super::*;
use crate::domain::Provenance;
use crate::units::{Joules, Seconds, Watts};

/// Ten requests of 100 + 50 tokens each, at a batch of 4, on one GPU or one socket: 500 J and 20 s as planned.
struct Rig {
    dir: tempfile::TempDir,
    opened: Opened,
    deployment: DeploymentJson,
}

impl Rig {
    fn new(kind: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shard: String = (0..10).map(|k| format!("{{\"custom_id\": \"r{k}\"}}\n")).collect();
        fs::create_dir_all(dir.path().join("shards")).unwrap();
        fs::create_dir_all(dir.path().join(RESULTS)).unwrap();
        fs::write(dir.path().join("shards/i0001.jsonl"), shard).unwrap();
        let jobs = json!([{"job": "a", "requests": 6, "energy_j": 300, "deadline_s": 1},
            {"job": "b", "requests": 4, "energy_j": 100, "deadline_s": 1}]);
        let instance = json!({"instance": "i0001", "node": "n1", "devices": [0], "begin_s": 0, "start_s": 10, "end_s": 30,
            "time_limit_min": 1, "after": [], "shards": ["shards/i0001.jsonl"], "energy_j": 400, "load_j": 100, "jobs": jobs});
        let scripts =
            serde_json::from_value(json!({"schema_version": 1, "scripts": [{"file": "", "pool": "p", "kind": kind,
            "partition": null, "deployment": "d", "options": [], "nodes": "n1", "other_nodes": "", "time_limit_min": 1,
            "deadline_s": null, "instances": [instance]}]}))
            .unwrap();
        let zeros = [0.0; 6];
        let deployment = serde_json::from_value(json!({"id": "d", "family": {"model": "m", "precision": "bfloat16",
            "device": "H100", "devices": 1, "tensor_parallel": 1, "expert_parallel": 1, "data_parallel": 1, "pipeline_parallel": 1,
            "kv_cache": true, "engine": "vllm-0.9.1"}, "pool": "p", "max_num_seqs": 4, "batch_size": 4.0, "net_energy_j": zeros,
            "net_energy_low_j": zeros, "net_energy_high_j": zeros, "net_energy_estimated_j": zeros, "busy_time_s": zeros,
            "load_s": 5.0, "load_j": 1.0, "tail_s": 0.0, "tail_j": 0.0, "idle_power_w": 60.0}))
        .unwrap();
        let opened = Opened { dir: dir.path().to_owned(), scripts, submission: None, jobs: BTreeMap::new() };
        Self { dir, opened, deployment }
    }

    /// What a run's meter and its client wrote, with changes.
    fn ran(&self, run: &str, meter: Value, record: Value) {
        let gpu = self.opened.scripts.scripts[0].kind == "gpu";
        let line = json!({"name": "meter", "source": if gpu { "nvml" } else { "rapl" }, "scope": if gpu { "device" } else { "package" },
            "method": "counter", "provenance": "measured", "device_index": gpu.then_some(0), "resolution": 1.0, "samples": 9,
            "energy_j": 2200.0, "idle_before_w": 60.0, "net_energy_j": 1000.0});
        let mut whole = json!({"schema_version": 1, "jouleplan": "0", "state": "finished", "command": [], "node": "n1",
            "started_at": "2026-01-01T00:00:00Z", "seconds": 20.0, "exit_code": 0, "interval_s": 0.1, "clean": true, "devices": [],
            "meters": [line], "refused": [], "warnings": [],
            "phases": [{"name": "serve", "from_s": 5.0, "seconds": 14.0, "energy_j": {"meter": 1800.0}}]});
        let own = if gpu {
            json!({"gpu_energy_j": 2200.0, "gpu_net_energy_j": 1000.0, "gpu_idle_power_w": 60.0, "devices": [device(1980.0, "measured")]})
        } else {
            json!({"cpu_energy_j": 2200.0, "cpu_energy_scope": "package"})
        };
        overwrite(&mut whole, own);
        overwrite(&mut whole, meter);
        fs::write(self.dir.path().join(format!("{RESULTS}/{run}.meter.json")), whole.to_string()).unwrap();
        let mut done = json!({"ready_s": 5.0, "sent": 10, "answered": 10, "failed": 0, "seconds": 14.0, "mean_in_flight": 3.9,
            "input_tokens": 1000, "output_tokens": 500, "input_sq": 100_000, "output_sq": 25_000, "input_output": 50_000});
        overwrite(&mut done, record);
        fs::write(self.dir.path().join(format!("{RESULTS}/{run}.run.json")), done.to_string()).unwrap();
    }

    fn row(&self) -> (InstanceRow, Vec<Sample>) {
        self.row_with(&BTreeMap::new())
    }

    fn row_with(&self, accounted: &BTreeMap<String, Accounted>) -> (InstanceRow, Vec<Sample>) {
        let (script, mut samples) = (&self.opened.scripts.scripts[0], Vec::new());
        let row = row(&self.opened, script, &script.instances[0], &self.deployment, accounted, &mut samples).unwrap();
        (row, samples)
    }
}

fn device(clock: f64, status: &str) -> Value {
    json!({"index": 0, "uuid": "GPU-0", "name": "H100", "energy_j": 2200.0, "method": "counter", "status": status,
        "sm_clock_mhz": {"min": clock, "mean": clock, "max": clock}, "processes_known": true})
}

fn overwrite(whole: &mut Value, with: Value) {
    for (key, value) in with.as_object().unwrap() {
        whole[key] = value.clone();
    }
}

#[test]
fn a_run_on_a_device_is_a_row_and_a_sample_of_its_family() {
    let rig = Rig::new("gpu");
    // Others on the processors are nothing to the device.
    rig.ran("i0001.7.0", json!({"clean": false}), json!({}));
    let (row, samples) = rig.row();
    assert_eq!((row.predicted_j, row.predicted_s, row.runs, row.requests, row.answered), (500.0, 20.0, 1, 10, 0));
    assert_eq!((row.measured_j, row.gross_j, row.seconds), (Some(1000.0), Some(2200.0), Some(20.0)));
    assert!(!row.is_estimated && row.causes.is_empty() && row.slurm_gross_j.is_none(), "{row:?}");
    let [sample] = &samples[..] else { panic!("{samples:?}") };
    assert_eq!(sample.family(), (&rig.deployment.family).into());
    assert_eq!(
        (sample.gpu_energy, sample.cpu_energy, sample.idle_power),
        (Some(Joules(1800.0)), None, Some(Watts(60.0)))
    );
    assert_eq!((sample.runtime, sample.requests, sample.batch_size), (Some(Seconds(14.0)), 10.0, 3.9));
    assert_eq!((sample.tokens.input, sample.tokens.output, sample.tokens.output_sq), (Some(100.0), 50.0, Some(2500.0)));
    assert_eq!((sample.provenance, sample.max_num_seqs), (Provenance::Measured, Some(4)));

    let mut sums = Sums::default();
    assert_eq!((sums.energy_factor(), sums.time_factor()), (None, None));
    sums.add(&row, 0.75);
    assert_eq!((sums.energy_factor(), sums.time_factor(), sums.predicted_j), (Some(2.0), Some(1.0), 375.0));
    sums.add(&InstanceRow { measured_j: None, ..row }, 1.0);
    assert_eq!(sums.instances, 1);
}

#[test]
fn runs_of_a_requeued_job_add_up_and_slurm_stands_beside_them() {
    let mut rig = Rig::new("gpu");
    rig.ran("i0001.7.0", json!({"phases": []}), json!({"answered": 4}));
    rig.ran("i0001.7.1", json!({}), json!({"sent": 6, "answered": 6}));
    // Of another instance whose name begins alike.
    rig.ran("i00012.7.1", json!({}), json!({}));
    rig.opened
        .jobs
        .insert("i0001".into(), crate::formats::submission::Submitted { slurm_job: "7".into(), node: "n1".into() });
    let accounted = Accounted {
        id: "7".into(),
        nodes: "n2".into(),
        step_seconds: Some(41.0),
        step_energy_j: Some(9000.0),
        ..Accounted::default()
    };
    let (row, samples) = rig.row_with(&BTreeMap::from([("7".to_owned(), accounted)]));
    assert_eq!((row.runs, row.measured_j, row.seconds, row.node.as_str()), (2, Some(2000.0), Some(40.0), "n2"));
    assert_eq!((row.slurm_gross_j, row.slurm_seconds), (Some(9000.0), Some(41.0)));
    assert_eq!(row.causes[0], "ran 2 times");
    assert_eq!(samples.len(), 1, "the first run was killed before it had served");
    // A run without a meter leaves the sum unknown, not smaller.
    rig.ran(
        "i0001.7.2",
        json!({"gpu_energy_j": null, "gpu_net_energy_j": null, "meters": [], "devices": []}),
        json!({}),
    );
    assert_eq!((rig.row().0.measured_j, rig.row().0.seconds), (None, Some(60.0)));
}

#[test]
fn what_went_otherwise_is_named_and_spoils_the_sample() {
    let causes = |clock: Option<u32>, meter: Value, record: Value| {
        let mut rig = Rig::new("gpu");
        rig.deployment.sm_clock_mhz = clock;
        rig.ran("i0001.7.0", meter, record);
        let (row, samples) = rig.row();
        (row.causes.join("; "), samples.len())
    };
    let none = || json!({});
    assert_eq!(causes(Some(1980), none(), none()), (String::new(), 1));
    assert_eq!(causes(Some(1200), none(), none()), ("clock not honoured: 1980 MHz instead of 1200".into(), 0));
    assert_eq!(
        causes(None, none(), json!({"mean_in_flight": 2.0})),
        ("batch not reached: 2.0 instead of 4.0".into(), 1)
    );
    assert_eq!(causes(None, none(), json!({"ready_s": 40.0})), ("slow load: 40 s instead of 5".into(), 1));
    assert_eq!(causes(None, none(), json!({"failed": 3})), ("3 requests failed".into(), 0));
    let mut hot = device(1980.0, "measured");
    hot["throttle_reasons"] = json!([{"reason": "thermal", "share": 0.5}, {"reason": "power", "share": 0.05}]);
    assert_eq!(causes(None, json!({"devices": [hot]}), none()), ("throttled: thermal".into(), 1));
    let others = json!({"devices": [device(1980.0, "contaminated")]});
    assert_eq!(causes(None, others, none()), ("others used a device, or its meters disagree".into(), 0));
    // Half of what was to be measured, or none.
    let two = json!({"devices": [device(1980.0, "measured"), device(1980.0, "measured")]});
    assert_eq!(causes(None, two, none()), (String::new(), 0));
    assert_eq!(causes(None, json!({"phases": []}), none()), (String::new(), 0));
}

#[test]
fn processors_of_a_shared_node_are_split_by_cores_and_stand_in_for_devices_as_estimates() {
    let rig = Rig::new("cpu");
    rig.ran("i0001.7.0", json!({}), json!({}));
    let (row, samples) = rig.row();
    assert_eq!((row.measured_j, row.gross_j, row.is_estimated), (Some(1000.0), Some(2200.0), false));
    assert_eq!((samples[0].cpu_energy, samples[0].gpu_energy), (Some(Joules(1800.0)), None));
    assert_eq!(samples[0].cpu_energy_scope.as_deref(), Some("package"));

    let line = json!({"name": "meter", "source": "rapl", "scope": "package", "method": "counter", "provenance": "measured",
        "resolution": 1.0, "samples": 9, "energy_j": 2200.0, "idle_before_w": 60.0, "net_energy_j": 1000.0,
        "estimated_share_energy_j": 1100.0});
    rig.ran("i0001.7.0", json!({"clean": false, "meters": [line]}), json!({}));
    let (row, samples) = rig.row();
    assert_eq!((row.measured_j, row.gross_j, row.is_estimated), (Some(500.0), Some(1100.0), true));
    assert_eq!((row.causes.join("; ").as_str(), samples.len()), ("others used the node", 0));

    // A node whose devices have no meter.
    let rig = Rig::new("gpu");
    let line = json!({"name": "meter", "source": "rapl", "scope": "package", "method": "counter", "provenance": "measured",
        "resolution": 1.0, "samples": 9, "energy_j": 2200.0, "idle_before_w": 60.0, "net_energy_j": 1000.0});
    let without = json!({"gpu_energy_j": null, "gpu_net_energy_j": null, "cpu_energy_j": 2200.0, "meters": [line], "devices": []});
    rig.ran("i0001.7.0", without, json!({}));
    let (row, samples) = rig.row();
    assert_eq!((row.measured_j, row.is_estimated, samples.len()), (Some(1000.0), true, 0));
    assert!(row.causes[0].starts_with("no meter of its devices"), "{:?}", row.causes);
}
