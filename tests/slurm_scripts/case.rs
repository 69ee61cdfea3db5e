//! Plan directories to write scripts for, and the means to run those.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jouleplan::domain::*;
use jouleplan::formats::shards::{self, Split};
use jouleplan::formats::workload::{Format, WorkloadFile};
use jouleplan::slurm::{self, Scripts};
use jouleplan::units::{Bytes, Joules, Seconds, Watts};
use serde_json::Value;

pub fn family(model: &str) -> FamilyKey {
    FamilyKey {
        model: model.into(),
        precision: "bf16".into(),
        device: "H100".into(),
        devices: 2,
        parallel: Parallel::tensor(2),
        kv_cache: true,
        engine: "vllm@test".into(),
    }
}

pub fn deployment(model: &str, pool: usize) -> Deployment {
    Deployment {
        id: model.into(),
        family: family(model),
        pool,
        devices: 2,
        max_num_seqs: 8,
        sm_clock_mhz: None,
        batch_size: 8.0,
        rates: Rates { batch_size: 8.0, net_energy: [1.0; 6], busy_time: [0.1; 6] },
        net_energy_low: [1.0; 6],
        net_energy_high: [1.0; 6],
        net_energy_estimated: [0.0; 6],
        load_time: Seconds(60.0),
        load_energy: Joules(1.0),
        tail_time: Seconds(1.0),
        tail_energy: Joules(1.0),
        max_tokens: f64::INFINITY,
        ttft_p99: None,
        tbt_p99: None,
        support: Box2::default(),
        idle_power: Watts(1.0),
        peak_power: None,
    }
}

pub fn pool(name: &str, kind: DeviceKind, slurm: SlurmTarget) -> Pool {
    Pool {
        name: name.into(),
        nodes: vec!["h100n1".into(), name.into()],
        device: "H100".into(),
        kind,
        devices_per_node: 4,
        devices_busy: BTreeMap::new(),
        devices_held: BTreeMap::new(),
        device_memory: Bytes::from_gib(64.0),
        host_memory: None,
        cpus_per_device: Some(8),
        idle_power: Figure::estimated(Watts(70.0)),
        base_power: Some(Watts(300.0)),
        suspend: true,
        wake_time: Seconds(60.0),
        wake_energy: Joules(1.0),
        clock_control: false,
        storage_gib_per_s: None,
        slurm,
    }
}

pub fn engine(name: &str, engine: &str, command: Option<Vec<String>>) -> Engine {
    Engine {
        model: name.into(),
        checkpoint: format!("{name}.gguf"),
        precision: "bf16".into(),
        served_name: name.into(),
        architecture: Architecture {
            layers: 1,
            attention_heads: 1,
            kv_heads: 1,
            head_dimension: 1,
            parameters: 1.0,
            active_parameters: 1.0,
            kv_bytes_per_token_layer: None,
        },
        engine: engine.into(),
        module: None,
        image: None,
        arguments: vec![name.into()],
        environment: BTreeMap::from([("GREETING".to_owned(), name.to_owned())]),
        command,
        load_time: None,
    }
}

/// A plan directory in a folder of a hostile name.
pub struct Case {
    pub dir: tempfile::TempDir,
    pub cluster: Cluster,
    pub deployments: Vec<Deployment>,
    pub engines: Vec<Engine>,
}

impl Case {
    pub fn new(pool: Pool, deployment: Deployment, engine: Engine) -> Self {
        Self {
            dir: tempfile::Builder::new().prefix("plan it's $(touch pwned) ").tempdir().unwrap(),
            cluster: Cluster { pools: vec![pool], site: Site::default() },
            deployments: vec![deployment],
            engines: vec![engine],
        }
    }

    /// Writes shards and scripts for one instance (on node `node`) that serves every line of `workload`.
    pub fn write(&self, file: &str, format: Format, workload: &str, node: usize) -> Result<PathBuf, slurm::SlurmError> {
        let requests = workload.lines().count() - usize::from(format == Format::Csv);
        let schedule = Schedule {
            instances: vec![Instance {
                deployment: 0,
                pool: 0,
                node,
                device_indices: vec![0, 1],
                start: Seconds(60.0),
                end: Seconds(661.0),
            }],
            powered: vec![PoweredInterval {
                pool: 0,
                node,
                wake: Seconds(0.0),
                on: Seconds(60.0),
                off: Seconds(661.0),
            }],
            assignment: vec![0; requests],
        };
        let dir = self.dir.path();
        let path = dir.join(file);
        fs::write(dir.join("plan.json"), "{}").unwrap();
        fs::write(&path, workload).unwrap();
        let files = [WorkloadFile { path, format, first_request: 0, requests }];
        let served = slurm::served_name(&self.engines, &self.deployments[0].family);
        let split = Split { assignment: &schedule.assignment, served_names: &[served], rank: None };
        let shards = shards::write(dir, &files, &split).unwrap();
        let requests = Requests {
            input_tokens: vec![100; requests],
            output_tokens: vec![20; requests],
            group: vec![0; requests],
            ids: RequestIds::Rows(vec![(String::new(), 0)]),
        };
        self.scripts(&schedule, &shards, &requests)?;
        Ok(dir.join("slurm/i0001.sbatch"))
    }

    /// Writes the scripts of these instances.
    pub fn scripts(
        &self,
        schedule: &Schedule,
        shards: &[Vec<String>],
        requests: &Requests,
    ) -> Result<(), slurm::SlurmError> {
        let (deployments, cluster, engines) = (&self.deployments, &self.cluster, &self.engines);
        let scripts = Scripts { schedule, deployments, cluster, engines, shards, requests, served: &[] };
        slurm::write(self.dir.path(), &scripts)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.dir.path().join(name).exists()
    }

    /// Runs the script under bash with the fake engine first on the path, in a folder that must stay empty.
    pub fn run(&self, script: &Path, variables: &[(&str, &str)]) -> Output {
        let elsewhere = tempfile::tempdir().unwrap();
        let output = self.command(script, elsewhere.path()).envs(variables.iter().copied()).output().unwrap();
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        assert!(!self.has("pwned"), "a name was executed");
        output
    }

    /// The script under bash in `folder`, with the fake engine first on the path.
    pub fn command(&self, script: &Path, folder: &Path) -> Command {
        let bin = self.dir.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm_scripts/fake_engine.py");
        for name in ["vllm", "llama-server", "apptainer"] {
            let program = bin.join(name);
            fs::copy(&fake, &program).unwrap();
            executable(&program);
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command
            .arg(script)
            .current_dir(folder)
            .env("PATH", path)
            .env("JOULEPLAN_BIN", env!("CARGO_BIN_EXE_jouleplan"))
            .env("JOULEPLAN_SYSFS_ROOT", self.dir.path().join("no-meters"))
            .env("FAKE_ENGINE_LOG", self.dir.path().join("engine.json"))
            .env_remove("JOULEPLAN_DIR")
            .env_remove("SLURM_SUBMIT_DIR")
            .env_remove("SLURM_JOB_ID");
        command
    }
}

pub fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn gpu_case(name: &str) -> Case {
    let slurm = SlurmTarget { gres: Some("gpu:h100:8".into()), ..SlurmTarget::default() };
    Case::new(pool(name, DeviceKind::Gpu, slurm), deployment(name, 0), engine(name, "vllm", None))
}

pub fn workload(ids: &[String]) -> String {
    ids.iter()
        .map(|id| {
            let body = serde_json::json!({"model": "anything", "prompt": format!("prompt of {id}")});
            serde_json::json!({"custom_id": id, "method": "POST", "url": "/v1/completions", "body": body}).to_string()
                + "\n"
        })
        .collect()
}
