//! Whose work ran: the process table, as far as a measurement needs it.
//!
//! Only the few processes that a device names are looked up, up to their ancestors: walking the whole table many times a
//! minute would itself cost energy.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A process table: `/proc`, or a test's.
#[derive(Clone, Debug)]
pub struct ProcessTable {
    root: PathBuf,
}

/// What the table says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessFacts {
    pub parent: u32,
    /// Of its owner (real user).
    pub uid: u32,
    pub name: String,
}

impl ProcessTable {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// `None` where there is no such process, or in another PID namespace.
    pub fn facts(&self, pid: u32) -> Option<ProcessFacts> {
        let status = fs::read_to_string(self.root.join(pid.to_string()).join("status")).ok()?;
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        Some(ProcessFacts {
            parent: field("PPid")?.parse().ok()?,
            uid: field("Uid")?.split_whitespace().next()?.parse().ok()?,
            name: field("Name")?.to_owned(),
        })
    }

    /// When a living process started, in ticks since boot. `None` for one that is gone, or a zombie, which does nothing more.
    pub fn started(&self, pid: u32) -> Option<u64> {
        let stat = fs::read_to_string(self.root.join(pid.to_string()).join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        fields.get(19).filter(|_| fields.first() != Some(&"Z"))?.parse().ok()
    }

    /// Whether `pid` is `ancestor` or descends from it.
    pub fn descends(&self, pid: u32, ancestor: u32) -> bool {
        let mut at = pid;
        // A table that changes while it is read could make a circle; no chain is this long.
        for _ in 0..1_000 {
            if at == ancestor {
                return true;
            }
            match self.facts(at) {
                Some(facts) if facts.parent > 0 && facts.parent != at => at = facts.parent,
                _ => return false,
            }
        }
        false
    }

    /// Core-seconds the whole node has been busy since it started.
    pub fn node_cpu_seconds(&self) -> Option<f64> {
        let stat = fs::read_to_string(self.root.join("stat")).ok()?;
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<f64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is within user time.
        let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| ticks.get(*index)).sum::<f64>();
        (ticks.len() >= 4).then_some(busy / ticks_per_second())
    }

    /// Core-seconds of this process's ended and waited-for descendants.
    pub fn children_cpu_seconds(&self) -> Option<f64> {
        let stat = fs::read_to_string(self.root.join("self/stat")).ok()?;
        // The name, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
        Some((ticks(13)? + ticks(14)?) / ticks_per_second())
    }

    /// Processors of the node that are on.
    pub fn online_cpus(&self) -> Option<usize> {
        let stat = fs::read_to_string(self.root.join("stat")).ok()?;
        let is_cpu =
            |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        Some(stat.lines().filter(is_cpu).count()).filter(|count| *count > 0)
    }
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// The command and its descendants. A process once seen to descend stays, also after its parents ended.
#[derive(Clone, Debug)]
pub struct Family {
    table: ProcessTable,
    members: Arc<Mutex<Members>>,
}

#[derive(Debug, Default)]
struct Members {
    root: Option<u32>,
    ended: bool,
    known: BTreeSet<u32>,
}

impl Family {
    pub fn new(table: ProcessTable) -> Self {
        Self { table, members: Arc::default() }
    }

    pub fn table(&self) -> &ProcessTable {
        &self.table
    }

    /// The command has begun.
    pub fn begin(&self, root: u32) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).root = Some(root);
    }

    /// The command has ended; its members are still known.
    pub fn end(&self) {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
    }

    /// There is no command any more, until the next one begins.
    pub fn forget(&self) {
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = Members::default();
    }

    pub fn is_running(&self) -> bool {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.root.is_some() && !members.ended
    }

    pub fn has_begun(&self) -> bool {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).root.is_some()
    }

    pub fn contains(&self, pid: u32) -> bool {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(root) = members.root else { return false };
        if members.known.contains(&pid) {
            return true;
        }
        let descends = self.table.descends(pid, root);
        if descends {
            members.known.insert(pid);
        }
        descends
    }
}
