//! The node's power by its management controller: `ipmitool dcmi power reading`.
//!
//! A reading takes a process and a tenth of a second or more, so this meter is read once a second, by a thread of its own.
//! The controller's value is itself a mean over about a second.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::meter::{Identity, Meter, Method, Reading, Scope};
use super::refusal::{Refusal, RefusalKind};
use crate::domain::Provenance;
use crate::units::{Seconds, Watts};

const LINE: &str = "Instantaneous power reading:";

/// The meter behind `ipmitool` at `program`.
///
/// # Errors
/// Why it gives no power.
pub fn meter(program: &Path) -> Result<Box<dyn Meter>, Refusal> {
    reading(program)?;
    let identity = Identity {
        name: "ipmi:dcmi".to_owned(),
        source: "ipmi",
        scope: Scope::Node,
        method: Method::Integrated { averaged_over: Seconds(1.0) },
        resolution: 1.0,
        provenance: Provenance::Measured,
    };
    Ok(Box::new(Dcmi { identity, program: program.to_owned() }))
}

struct Dcmi {
    identity: Identity,
    program: PathBuf,
}

impl Meter for Dcmi {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn read(&mut self) -> Result<Reading, Refusal> {
        reading(&self.program).map(Reading::Power)
    }
}

fn reading(program: &Path) -> Result<Watts, Refusal> {
    let mut command = Command::new(program);
    let output = command.args(["dcmi", "power", "reading"]).stdin(Stdio::null()).output();
    let name = program.display().to_string();
    let output = output.map_err(|error| Refusal::of_io(&name, &error, ""))?;
    let (text, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let watts =
        text.lines().find_map(|line| line.trim().strip_prefix(LINE)?.split_whitespace().next()?.parse::<f64>().ok());
    // Controllers without a sensor answer 0 W: unknown.
    if let Some(watts) = watts.filter(|watts| output.status.success() && *watts > 0.0) {
        return Ok(Watts(watts));
    }
    let why = complaint.lines().next().unwrap_or("it names no power").trim();
    let denied = complaint.contains("Permission denied") || complaint.contains("Could not open device");
    let (kind, remedy) = if denied {
        (RefusalKind::Permission, "run this as root, or let users read /dev/ipmi0")
    } else {
        (RefusalKind::Unsupported, "")
    };
    Err(Refusal::new(kind, format!("{name} dcmi power reading: {why}"), remedy))
}
