//! A real Prometheus scrapes an exporter on the loopback, answers a range query, and the answer is imported.
//!
//! Debian's package `prometheus` has the program; where it is not installed this test says that it skipped.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Scrapes in which device 1 is not there at all.
const AWAY: std::ops::Range<usize> = 6..9;
/// Scrapes in which device 1 is there and its power is not known.
const BLANK: std::ops::Range<usize> = 12..14;

/// Answers each scrape with the next sample, and says how many there were.
fn exporter() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let scrapes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&scrapes);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let body = metrics(counted.fetch_add(1, Ordering::SeqCst));
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    (port, scrapes)
}

fn metrics(scrape: usize) -> String {
    let line = |name: &str, gpu: u32, value: &str| {
        format!("{name}{{gpu=\"{gpu}\",UUID=\"GPU-{gpu}\",device=\"nvidia{gpu}\",Hostname=\"n1\"}} {value}\n")
    };
    let mut text =
        "# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).\n# TYPE DCGM_FI_DEV_POWER_USAGE gauge\n".to_owned();
    text += &line("DCGM_FI_DEV_POWER_USAGE", 0, &format!("{}.5", 100 + scrape));
    if !AWAY.contains(&scrape) {
        let value = if BLANK.contains(&scrape) { "9223372036854775794".to_owned() } else { "250".to_owned() };
        text += &line("DCGM_FI_DEV_POWER_USAGE", 1, &value);
    }
    text + &line("DCGM_FI_DEV_SM_CLOCK", 0, "1410")
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The body of the answer, once the server is up.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn a_range_query_of_a_real_prometheus_is_imported() {
    if Command::new("prometheus").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!(
            "SKIPPED: `prometheus` is not installed (Debian: apt-get install prometheus), so no query is imported"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (target, scrapes) = exporter();
    let config = format!(
        "global:\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\nscrape_configs:\n  - job_name: gpu\n    \
         static_configs:\n      - targets: ['127.0.0.1:{target}']\n"
    );
    fs::write(folder.path().join("p.yml"), config).unwrap();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("prometheus")
        .current_dir(folder.path())
        .args(["--config.file=p.yml", "--storage.tsdb.path=data", "--log.level=error"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(folder.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let server = Server(child);
    let begun = Instant::now();
    let start = now();
    while scrapes.load(Ordering::SeqCst) < 18 {
        let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        assert!(begun.elapsed() < Duration::from_secs(60), "Prometheus does not scrape: {}", log());
        thread::sleep(Duration::from_millis(50));
    }
    // What is before the first scrape has no points, so a start that is too early does no harm.
    let query = "%7B__name__%3D~%22DCGM_FI_DEV_(POWER_USAGE%7CSM_CLOCK)%22%7D";
    let path = format!("/api/v1/query_range?query={query}&start={start:.1}&end={:.1}&step=0.1", now() - 0.3);
    let answer = get(port, &path).unwrap();
    drop(server);
    fs::write(folder.path().join("p.json"), &answer).unwrap();
    let output = assert_cmd::Command::cargo_bin("jouleplan")
        .unwrap()
        .current_dir(folder.path())
        .args(["telemetry", "import", "prometheus", "p.json", "--out", "t.csv", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}\n{answer}", String::from_utf8_lossy(&output.stderr));
    let imported: Value = serde_json::from_slice(&output.stdout).unwrap();
    for device in 0..2 {
        let sum = &imported["channels"][device];
        assert_eq!(
            (sum["node"].as_str(), sum["device_index"].as_u64()),
            (Some("n1"), Some(device as u64)),
            "{imported}"
        );
        let (energy, seconds) = expected(&answer, device);
        let (read, covered) = (sum["energy_j"].as_f64().unwrap(), sum["seconds"].as_f64().unwrap());
        assert!((covered - seconds).abs() < 1e-3 && seconds > 1.0, "device {device}: {covered} {seconds}\n{imported}");
        assert!((read / energy - 1.0).abs() < 1e-3, "device {device}: {read} {energy}\n{imported}");
    }
    assert!(imported["channels"][1]["gaps"].as_u64() >= Some(2), "away and blank: {imported}");
    assert_eq!(imported["channels"][1]["max_power_w"].as_f64(), Some(250.0), "a blank value is no power");
    assert!(fs::read_to_string(folder.path().join("t.csv")).unwrap().contains(",1410,"));
}

/// Joules and known seconds of a device, counted in steps of the query.
fn expected(answer: &str, device: usize) -> (f64, f64) {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let device = device.to_string();
    let series =
        answer["data"]["result"].as_array().unwrap().iter().find(|series| {
            series["metric"]["gpu"] == *device && series["metric"]["__name__"] == "DCGM_FI_DEV_POWER_USAGE"
        });
    let value = |point: &Value| {
        let tenths = (10.0 * point[0].as_f64().unwrap()).round() as i64;
        (tenths, point[1].as_str().unwrap().parse::<f64>().unwrap())
    };
    let points: Vec<(i64, f64)> = series.unwrap()["values"].as_array().unwrap().iter().map(value).collect();
    let known = |pair: &&[(i64, f64)]| pair[1].0 - pair[0].0 == 1 && pair.iter().all(|point| point.1 < 1e6);
    let steps: Vec<&[(i64, f64)]> = points.windows(2).filter(known).collect();
    (steps.iter().map(|pair| 0.05 * (pair[0].1 + pair[1].1)).sum(), 0.1 * steps.len() as f64)
}
