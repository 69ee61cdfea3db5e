//! Good files of every format and how each is broken.

use jouleplan::formats::workload::Format;

use crate::Kind;

pub const BATCH_LINE: &str = r#"{"custom_id":"r1","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":64}}"#;

const CLUSTER: &str = r#"[[pool]]
name = "h100"
nodes = "h100n[1-4]"
device = "H100"
devices_per_node = 8
devices_busy = { "h100n1" = [0, 3] }
device_memory_gib = 80
host_memory_gib = 1024
cpus_per_device = 12
idle_power_w = 70
base_power_w = 900
suspend = true
wake_s = 120
wake_j = 200000
clock_control = "none"
mps = false
storage_gbps = 80
partition = "gpu"
gres = "gpu:h100"
constraint = "ib"
account = "a1"
qos = "night"

[site]
pue = 1.2
"#;

const JOBS: &str = r#"[[job]]
name = "evaluation"
files = ["a.csv"]
task = "mmlu_pro"
min_accuracy = 60
accuracy_rule = "mean"
deadline = "8h"
release = "30min"
models = ["m1", "m2"]
pools = ["h100"]
max_ttft_s = 2.0
max_tbt_s = 0.1

[map]
"gpt-4o" = ["m1"]
"#;

const ACCURACY: &str = "model,task,accuracy,source\nm1,t,61.5,x\nm2,t,70,y\nm3,t,80,\n";
const CSV: &str = "input_tokens,output_tokens,request_id,job,model,min_accuracy,deadline_s,release_s,max_tokens\n\
                   100,20,a,j1,m1,60,3600,0,64\n200,30,b,j1,m1,60,3600,0,64\n300,40,c,j2,m2,,7200,,\n";
const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n\
                     2023-11-16 18:15:50.9951690,396,109\n2023-11-16 18:15:51.2224670,879,55\n";
const CLASSES: &str = "input_tokens,output_tokens,count,job\n100,20,5,j1\n200,30,7,j1\n300,40,1,j2\n";
const SIDECAR: &str = "custom_id,input_tokens,output_tokens\nr1,10,20\nr2,30,40\nr3,50,60\n";
pub const TOKENIZER: &str = r#"{"version":"1.0","added_tokens":[],"pre_tokenizer":{"type":"Whitespace"},
"model":{"type":"WordLevel","vocab":{"a":0,"[UNK]":1},"unk_token":"[UNK]"}}"#;

/// Two requests at a time for a second each, four in all.
const AIPERF: &str = r#"{
"aiperf_version": "0.13.0",
"was_cancelled": false,
"request_count": {"unit": "requests", "avg": 4.0},
"benchmark_duration": {"unit": "sec", "avg": 2.0},
"request_latency": {"unit": "ms", "avg": 1000.0},
"input_sequence_length": {"unit": "tokens", "avg": 20.0, "std": 10.0},
"output_sequence_length": {"unit": "tokens", "avg": 5.0, "std": 0.0},
"telemetry_data": {"endpoints": {"pynvml": {"gpus": {"gpu_0": {"gpu_index": 0, "gpu_name": "NVIDIA H100 80GB HBM3",
"gpu_uuid": "GPU-a", "metrics": {"nvidia_energy_consumption": {"unit": "MJ", "avg": 0.0006}}}}}}}
}
"#;
const AIPERF_LINE: &str = r#"{"metadata": {"benchmark_phase": "profiling", "was_cancelled": false, "request_start_ns": 1760000000000000000, "request_end_ns": 1760000001000000000}, "metrics": {"input_sequence_length": {"value": 20, "unit": "tokens"}, "output_sequence_length": {"value": 5, "unit": "tokens"}, "time_to_first_token": {"value": 200.0, "unit": "ms"}}, "error": null}"#;
const VLLM_BENCH: &str = r#"{"model_id": "m", "num_prompts": 8, "duration": 2.0, "completed": 8, "failed": 0,
"total_input_tokens": 800, "total_output_tokens": 88, "mean_ttft_ms": 300.0, "p99_ttft_ms": 400.0, "mean_tpot_ms": 70.0,
"mean_itl_ms": 70.0, "median_itl_ms": 69.0, "p99_itl_ms": 90.0}
"#;

fn batch() -> String {
    (1..=3).map(|n| BATCH_LINE.replace("r1", &format!("r{n}")) + "\n").collect()
}

pub fn good() -> Vec<(Kind, String)> {
    vec![
        (Kind::Cluster, CLUSTER.to_owned()),
        (Kind::Jobs, JOBS.to_owned()),
        (Kind::Accuracy, ACCURACY.to_owned()),
        (Kind::Workload, CSV.to_owned()),
        (Kind::Pinned, CSV.to_owned()),
        (Kind::Workload, AZURE.to_owned()),
        (Kind::Releases, AZURE.to_owned()),
        (Kind::Workload, CLASSES.to_owned()),
        (Kind::Workload, batch()),
        (Kind::Sidecar, SIDECAR.to_owned()),
        (Kind::AiperfSummary, AIPERF.to_owned()),
        (Kind::AiperfRequests, format!("{AIPERF_LINE}\n{AIPERF_LINE}\n")),
        (Kind::VllmBench, VLLM_BENCH.to_owned()),
    ]
}

/// All broken files.
pub fn all() -> Vec<Case> {
    let mut cases = Cases(Vec::new());
    broken_bytes(&mut cases);
    broken_tables(&mut cases);
    broken_documents(&mut cases);
    broken_batches(&mut cases);
    broken_benchmarks(&mut cases);
    cases.0
}

/// A broken file: the reader, what is wrong, its bytes, and what the message must say beside the file's name.
pub struct Case {
    pub kind: Kind,
    pub what: String,
    pub bytes: Vec<u8>,
    pub place: String,
}

struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, kind: Kind, what: impl Into<String>, bytes: impl Into<Vec<u8>>, place: impl Into<String>) {
        self.0.push(Case { kind, what: what.into(), bytes: bytes.into(), place: place.into() });
    }

    /// Good text with one part replaced.
    fn swap(&mut self, kind: Kind, text: &str, from: &str, to: &str, place: &str) {
        assert!(text.contains(from), "{from}");
        self.add(kind, format!("`{from}` -> `{to}`"), text.replacen(from, to, 1), place);
    }
}

/// Encodings and ends of file that any text format can suffer.
fn broken_bytes(cases: &mut Cases) {
    for (kind, text) in good() {
        let utf16 = |bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        cases.add(kind, "UTF-16 LE", [vec![0xff, 0xfe], utf16(u16::to_le_bytes)].concat(), "line 1: not UTF-8");
        cases.add(kind, "UTF-16 BE", [vec![0xfe, 0xff], utf16(u16::to_be_bytes)].concat(), "line 1: not UTF-8");
        cases.add(kind, "UTF-16 without mark", utf16(u16::to_le_bytes), "line 1: not UTF-8");
        cases.add(kind, "binary", (0..=255).collect::<Vec<u8>>(), "line 1: not UTF-8");
        cases.add(kind, "empty", "", if kind == Kind::Cluster || kind == Kind::Jobs { "there is no" } else { "empty" });
    }
}

/// A table of `text` with the cell of `column` in data row 2 (line 3) replaced.
fn with_cell(text: &str, column: usize, value: &str) -> String {
    let change = |(number, line): (usize, &str)| {
        let mut cells: Vec<&str> = line.split(',').collect();
        if number == 2 {
            cells[column] = value;
        }
        cells.join(",") + "\n"
    };
    text.lines().enumerate().map(change).collect()
}

fn broken_tables(cases: &mut Cases) {
    let tables: [(Kind, &str, &[&str]); 6] = [
        (Kind::Accuracy, ACCURACY, &["model", "task", "accuracy"]),
        (Kind::Forced(Format::Csv), CSV, &["input_tokens"]),
        (Kind::Releases, AZURE, &["TIMESTAMP", "ContextTokens", "GeneratedTokens"]),
        (Kind::Forced(Format::Azure), AZURE, &["ContextTokens", "GeneratedTokens"]),
        (Kind::Forced(Format::ClassTable), CLASSES, &["input_tokens", "output_tokens", "count"]),
        (Kind::Sidecar, SIDECAR, &["custom_id"]),
    ];
    for (kind, text, required) in tables {
        let header: Vec<&str> = text.lines().next().unwrap().split(',').collect();
        for (index, column) in header.iter().enumerate() {
            if required.contains(column) {
                cases.add(kind, format!("no {column}"), text.replacen(column, "nothing", 1), "line 1");
                let place = format!("line 3, column {} ({column})", index + 1);
                cases.add(kind, format!("{column} empty"), with_cell(text, index, ""), place);
            }
            let wrong: &[&str] = match *column {
                "input_tokens" | "output_tokens" | "ContextTokens" | "GeneratedTokens" | "count" | "max_tokens" => {
                    &["nan", "-1", "1e300", "inf", "1.5", "ten", "99999999999999999999", "0x10", "1 000", "10000001000"]
                }
                "accuracy" | "min_accuracy" => &["nan", "-1", "1e300", "100.1", "61 %", "inf"],
                "deadline_s" => &["nan", "-1", "0", "1e300", "8h"],
                "release_s" => &["nan", "-1", "1e300", "3600"],
                "TIMESTAMP" if kind == Kind::Releases => &["yesterday", "2023-13-01 00:00:00", "1e300", "2023-11-16"],
                _ => &[],
            };
            for value in wrong {
                let place =
                    if *value == "3600" { "line 3".into() } else { format!("line 3, column {} ({column})", index + 1) };
                cases.add(kind, format!("{column} = {value}"), with_cell(text, index, value), place);
            }
        }
        let (first, rest) = text.split_once('\n').unwrap();
        cases.add(kind, "column doubled", format!("{first},{}\n{rest}", header[0]), "line 1");
        cases.add(kind, "nameless column", format!("{first},\n{rest}"), "line 1");
        cases.add(kind, "cut off in the last line", text.trim_end().rsplit_once(',').unwrap().0, "line 4");
        cases.add(kind, "a cell too many", format!("{text}1,2,3,4,5,6,7,8,9,10\n"), "line 5");
        cases.add(kind, "an open quote", format!("{text}\"1,2\n"), "line 5");
        cases.add(kind, "another separator", text.replace(',', ";"), "line 1");
    }
    for (kind, text) in [(Kind::Workload, CSV), (Kind::Workload, AZURE), (Kind::Workload, CLASSES)] {
        cases.add(kind, "header only", format!("{}\n", text.lines().next().unwrap()), "no request");
    }
    cases.swap(Kind::Workload, CSV, "30,b", "30,a", "request 2");
    cases.swap(Kind::Workload, CSV, "30,b", "30,", "line 3, column 3 (request_id)");
    cases.swap(Kind::Workload, CSV, "200,30", "200,0", "line 3, column 2 (output_tokens)");
    cases.swap(Kind::Workload, CSV, "200,30", "200,65", "line 3, column 2 (output_tokens)");
    cases.swap(Kind::Workload, CSV, "40,c", ",c", "line 4, column 2 (output_tokens)");
    cases.swap(Kind::Pinned, CSV, "j2,m2", "j2,", "line 4 (model)");
    cases.swap(Kind::Workload, CLASSES, ",7,", ",0,", "line 3, column 3 (count)");
    cases.swap(Kind::Workload, CLASSES, ",7,", ",60000000,", "line 3, column 3 (count)");
    cases.swap(Kind::Forced(Format::ClassTable), CLASSES, "job", "request_id", "line 1");
    cases.add(Kind::Forced(Format::Csv), "a class table as csv", CLASSES, "line 1");
    cases.add(Kind::Workload, "unknown header", "prompt,answer\na,b\n", "line 1");
    cases.add(
        Kind::Workload,
        "not UTF-8 in a cell",
        b"input_tokens,output_tokens,job\n1,1,\xff\n",
        "line 2, column 3 (job)",
    );
    cases.add(Kind::Accuracy, "a figure twice", format!("{ACCURACY}m1,t,3,z\n"), "line 5, column 1 (model)");
    cases.add(Kind::Sidecar, "an id twice", format!("{SIDECAR}r1,1,2\n"), "line 5, column 1 (custom_id)");
    cases.add(Kind::Sidecar, "no counts", "custom_id\nr1\n", "line 1");
}

/// Every key of a document renamed, doubled and given values it cannot have.
fn broken_documents(cases: &mut Cases) {
    let wrong = |key: &str| -> &'static [&'static str] {
        match key {
            "name" | "device" | "task" | "partition" | "gres" | "constraint" | "account" | "qos" => {
                &["\"\"", "7", "nan", "[\"a\"]", "\"a\\nb\""]
            }
            "nodes" => &[
                "\"\"",
                "\"n[1-\"",
                "\"n[4-1]\"",
                "\"n[1-999999999]\"",
                "\"n[0-9][0-9][0-9][0-9][0-9][0-9]\"",
                "\"n[1-2],n2\"",
                "\"n[0-18446744073709551615]\"",
                "\"n 1\"",
                "\"$(reboot)\"",
                "4",
                "\"n[1,,2]\"",
                "\"n[[1]]\"",
            ],
            "devices_per_node" | "cpus_per_device" => {
                &["0", "-1", "1.5", "nan", "\"8\"", "1e300", "99999999999999999999"]
            }
            "devices_busy" => &[
                "{ \"gone\" = [0] }",
                "{ \"h100n1\" = [8] }",
                "{ \"h100n1\" = [-1] }",
                "{ \"h100n1\" = 0 }",
                "{ \"h100n1\" = [0, 0] }",
                "[0]",
                "{ \"n[1-999999999]\" = [0] }",
                "{ \"h100n1\" = [0], \"h100n[1-2]\" = [1] }",
            ],
            "device_memory_gib" | "host_memory_gib" | "storage_gbps" => {
                &["0", "-1", "nan", "inf", "1e300", "\"80\"", "true"]
            }
            "idle_power_w" | "base_power_w" | "wake_s" | "wake_j" => &["-1", "nan", "inf", "1e300", "\"70\""],
            "suspend" | "mps" => &["1", "\"true\"", "[]"],
            "clock_control" | "accuracy_rule" => &["\"always\"", "1", "\"\""],
            "pue" => &["0.9", "nan", "1e300", "\"1.2\""],
            "min_accuracy" => &["-1", "101", "nan", "\"60\"", "1e300"],
            "deadline" => &[
                "\"8\"",
                "8",
                "\"-8h\"",
                "\"\"",
                "\"1e300h\"",
                "\"0s\"",
                "\"20min\"",
                "\"tomorrow\"",
                "\"1969-12-31T00:00:00Z\"",
                "1970-01-02T00:00:00",
                "\"99years\"",
            ],
            "release" => &["\"9h\"", "30", "\"-1s\"", "\"NaN\""],
            "files" | "models" | "pools" => &["\"x\"", "[1]", "[\"\"]"],
            "max_ttft_s" | "max_tbt_s" => &["0", "-1", "nan", "1e300", "\"2\""],
            _ => &[],
        }
    };
    for (kind, text) in [(Kind::Cluster, CLUSTER), (Kind::Jobs, JOBS)] {
        for (index, line) in text.lines().enumerate() {
            let Some((key, value)) = line.split_once(" = ") else { continue };
            let place = format!("line {}", index + 1);
            let bare = !key.starts_with('"');
            if bare {
                let renamed = line.replacen(key, &format!("{key}s_"), 1);
                cases.swap(kind, text, line, &renamed, &place);
            }
            cases.swap(kind, text, line, &format!("{line}\n{line}"), &format!("line {}", index + 2));
            cases.swap(kind, text, line, &format!("{key} = "), &place);
            cases.swap(kind, text, line, &format!("{key} {value}"), &place);
            for value in wrong(key) {
                let mutated = text.replacen(line, &format!("{key} = {value}"), 1);
                // A range of times or hosts is refused where the other end stands; everything else on its own line.
                let elsewhere = key == "deadline" || key == "nodes";
                let place = if elsewhere { "line ".to_owned() } else { place.clone() };
                cases.add(kind, format!("{key} = {value}"), mutated, place);
            }
        }
    }
    for key in ["name", "nodes", "device", "devices_per_node", "base_power_w"] {
        let without: String = CLUSTER
            .lines()
            .filter(|line| !line.starts_with(&format!("{key} =")))
            .map(|line| format!("{line}\n"))
            .collect();
        cases.add(Kind::Cluster, format!("no {key}"), without, "line ");
    }
    let pool = CLUSTER.split("\n[site]").next().unwrap();
    cases.add(Kind::Cluster, "pool twice", format!("{pool}{CLUSTER}"), "pool[2].name");
    cases.add(
        Kind::Cluster,
        "host in two pools",
        format!("{}{CLUSTER}", pool.replace("\"h100\"", "\"p\"")),
        "pool[2].nodes",
    );
    cases.add(Kind::Cluster, "no pool", "[site]\npue = 1.1\n", "there is no pool");
    cases.add(Kind::Cluster, "pool is no list", "[pool]\nname = \"a\"\n", "line 1");
    cases.add(Kind::Cluster, "nested without end", format!("a = {}", "[".repeat(10_000)), "line 1");
    cases.add(Kind::Cluster, "JSON", "{\"pool\": []}", "line 1");
    for key in ["power_cap_w = -5000", "carbon_csv = 5", "price_csv = [\"p.csv\"]"] {
        cases.swap(Kind::Cluster, CLUSTER, "pue = 1.2", key, "line 25");
    }
    cases.swap(Kind::Cluster, CLUSTER, "\"H100\"", "\"Warp 9\"\ndevice_kind = \"tpu\"", "line 5");
    let unknown = CLUSTER.replace("\"H100\"", "\"Warp 9\"");
    cases.swap(Kind::Cluster, &unknown, "idle_power_w = 70\n", "", "line 4");
    cases.swap(Kind::Cluster, &unknown, "device_memory_gib = 80\n", "", "line 4");
    cases.swap(Kind::Jobs, JOBS, "name = \"evaluation\"\n", "", "job[1].name");
    cases.swap(Kind::Jobs, JOBS, "min_accuracy = 60\n", "", "line 5");
    cases.swap(Kind::Jobs, JOBS, "[\"m1\", \"m2\"]", "[]", "line 9");
    cases.swap(Kind::Jobs, JOBS, "\"gpt-4o\" = [\"m1\"]", "\"gpt-4o\" = []", "map.gpt-4o");
    cases.swap(Kind::Jobs, JOBS, "\"gpt-4o\" = [\"m1\"]", "\"gpt-4o\" = \"m1\"", "map.gpt-4o");
    cases.add(Kind::Jobs, "job twice", format!("{}{JOBS}", JOBS.split("\n[map]").next().unwrap()), "job[2].name");
}

fn broken_batches(cases: &mut Cases) {
    let kind = Kind::Workload;
    let good = batch();
    let last = good.trim_end();
    let start = last.rfind('\n').unwrap() + 1;
    for cut in (start + 1..last.len()).step_by(7) {
        cases.add(kind, format!("cut at byte {}", cut - start), &last[..cut], "line 3");
    }
    for (from, to, place) in [
        ("\"custom_id\":\"r1\",", "", "line 1 (custom_id)"),
        ("\"r1\"", "7", "line 1 (custom_id)"),
        ("\"r1\"", "\"\"", "line 1 (custom_id)"),
        ("\"r1\"", "\"r2\"", "request 2"),
        ("/v1/chat/completions", "/v1/embeddings", "line 1 (url)"),
        (",\"max_tokens\":64", "", "line 1 (body.max_tokens)"),
        (":64", ":0", "line 1 (body.max_tokens)"),
        (":64", ":-1", "line 1 (body.max_tokens)"),
        (":64", ":1.5", "line 1 (body.max_tokens)"),
        (":64", ":1e300", "line 1 (body.max_tokens)"),
        (":64", ":1e999", "line 1"),
        (":64", ":NaN", "line 1"),
        (":64", ":\"64\"", "line 1 (body.max_tokens)"),
        (":64", ":64,\"n\":4", "line 1 (body.n)"),
        (":64", ":64,\"max_completion_tokens\":[]", "line 1 (body.max_completion_tokens)"),
        (":64", ":64,\"prompt\":\"also\"", "line 1 (body)"),
        ("\"m\"", "7", "line 1 (body.model)"),
        ("\"messages\":", "\"message\":", "line 1 (body)"),
        ("[{\"role\":\"user\",\"content\":\"hello\"}]", "[]", "line 1 (body)"),
        ("[{\"role\":\"user\",\"content\":\"hello\"}]", "\"hello\"", "line 1 (body)"),
        ("[{\"role\":\"user\",\"content\":\"hello\"}]", "[7]", "line 1 (body)"),
        ("\"hello\"", "7", "line 1 (body)"),
        ("\"hello\"", "[{\"type\":\"image_url\",\"image_url\":{}}]", "line 1 (body)"),
        ("\"hello\"", "\"\\ud800\"", "line 1"),
        ("\"body\":{", "\"bodies\":{", "line 1 (body)"),
        ("{\"custom_id\"", "[]\n{\"custom_id\"", "line 1"),
    ] {
        let kind = if to.starts_with("[]") { Kind::Forced(Format::OpenaiBatch) } else { kind };
        cases.swap(kind, &good, from, to, place);
    }
    cases.add(kind, "a JSON array", format!("[{BATCH_LINE}]"), "line 1");
    cases.add(kind, "not UTF-8", [&BATCH_LINE.as_bytes()[..20], b"\xff\"}"].concat(), "line 1");
    cases.add(kind, "nested without end", format!("{{\"a\":{}", "[".repeat(100_000)), "line 1");
    cases.add(Kind::Forced(Format::OpenaiBatch), "csv as batch", CSV, "line 1");
    for (what, text) in [
        ("empty", ""),
        ("no model", "{}"),
        ("cut", &TOKENIZER[..60]),
        ("wrong", "{\"model\":{\"type\":\"X\"}}"),
        ("no JSON", "hello"),
    ] {
        cases.add(Kind::Tokenizer, what, text, "no tokenizer");
    }
}

/// Every field that a sample needs renamed and given values that it cannot have, and files cut off anywhere.
fn broken_benchmarks(cases: &mut Cases) {
    let averages = ["request_count", "benchmark_duration", "input_sequence_length", "output_sequence_length"];
    for line in AIPERF.lines().filter(|line| line.contains("\"avg\"") && line.starts_with('"')) {
        let name = line.split("\": {\"unit\"").next().unwrap().rsplit('"').next().unwrap();
        if averages.contains(&name) {
            cases.swap(Kind::AiperfSummary, AIPERF, name, "nothing", name);
            cases.swap(Kind::AiperfSummary, AIPERF, line, &line.replace("\"avg\"", "\"mean\""), &format!("{name}.avg"));
            cases.swap(Kind::AiperfSummary, AIPERF, line, &format!("\"{name}\": 7,"), name);
        }
        for value in ["\"1\"", "[1]", "true"] {
            let (start, rest) = line.split_once("\"avg\": ").unwrap();
            let end = rest.find([',', '}']).unwrap();
            let broken = format!("{start}\"avg\": {value}{}", &rest[end..]);
            cases.swap(Kind::AiperfSummary, AIPERF, line, &broken, &format!("{name}.avg"));
        }
    }
    for (from, to, place) in [
        ("\"sec\"", "\"fortnight\"", "benchmark_duration.unit"),
        ("\"MJ\"", "\"Wh\"", "nvidia_energy_consumption.unit"),
        ("0.0006", "0.0", "nvidia_energy_consumption.avg"),
        ("\"GPU-a\"", "7", "gpu_0.gpu_uuid"),
        ("\"avg\": 2.0", "\"avg\": 0", "runtime_s"),
        ("\"avg\": 2.0", "\"avg\": 1e999", "line 5"),
        ("\"avg\": 4.0", "\"avg\": 1e300", "requests"),
        ("\"std\": 10.0", "\"std\": 1e300", "input_sq_mean"),
        ("false", "true", "was_cancelled"),
    ] {
        cases.swap(Kind::AiperfSummary, AIPERF, from, to, place);
    }
    let lines = format!("{AIPERF_LINE}\n{AIPERF_LINE}\n");
    for (from, to, place) in [
        ("\"metadata\"", "\"meta\"", "line 1 (metadata)"),
        ("\"metrics\"", "\"metric\"", "line 1 (metrics)"),
        ("\"request_start_ns\"", "\"start\"", "request_start_ns"),
        ("1760000000000000000", "\"now\"", "request_start_ns"),
        ("1760000000000000000", "-1", "request_start_ns"),
        ("1760000001000000000", "1", "request_end_ns"),
        ("\"output_sequence_length\"", "\"output\"", "output_sequence_length"),
        ("\"value\": 5", "\"value\": [5]", "output_sequence_length.value"),
        ("\"ms\"", "\"hours\"", "time_to_first_token.unit"),
        ("null", "{\"message\": \"x\"}", "1 of 2 requests failed"),
    ] {
        cases.swap(Kind::AiperfRequests, &lines, from, to, place);
    }
    for name in ["duration", "completed", "total_input_tokens", "total_output_tokens"] {
        cases.swap(
            Kind::VllmBench,
            VLLM_BENCH,
            &format!("\"{name}\""),
            "\"nothing\"",
            if name == "duration" { "no result" } else { name },
        );
        let (start, rest) = VLLM_BENCH.split_once(&format!("\"{name}\": ")).unwrap();
        let end = rest.find(',').unwrap();
        for value in ["\"8\"", "[]", "{}", "false"] {
            cases.add(
                Kind::VllmBench,
                format!("{name} = {value}"),
                format!("{start}\"{name}\": {value}{}", &rest[end..]),
                name,
            );
        }
        for value in ["NaN", "Infinity", "1e999"] {
            cases.add(
                Kind::VllmBench,
                format!("{name} = {value}"),
                format!("{start}\"{name}\": {value}{}", &rest[end..]),
                "line ",
            );
        }
    }
    cases.swap(Kind::VllmBench, VLLM_BENCH, "\"failed\": 0", "\"failed\": 1", "1 of 9 requests failed");
    for (kind, text) in
        [(Kind::AiperfSummary, AIPERF), (Kind::AiperfRequests, AIPERF_LINE), (Kind::VllmBench, VLLM_BENCH)]
    {
        let text = text.trim_end();
        for cut in (1..text.len()).step_by(29) {
            cases.add(kind, format!("cut at byte {cut}"), &text[..cut], "line ");
        }
        cases.add(kind, "nested without end", "[".repeat(100_000), "line 1");
        for other in ["[]", "7", "null", "{}"] {
            cases.add(kind, other, other, "");
        }
    }
}
