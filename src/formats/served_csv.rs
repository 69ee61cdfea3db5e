//! served.csv of a plan that goes on from another: the requests it leaves out, and who serves or has served them.
//!
//! It lies in the plan directory, so that the queue that is left follows from the workload and the directory alone, whatever
//! becomes of the plan before.

use std::path::Path;

use super::problems::Problems;
use super::table::Table;
use super::write::{WriteError, write_atomic_with};

pub const SERVED_CSV: &str = "served.csv";
pub const SERVED_HEADER: [&str; 2] = ["request_id", "instance"];

/// A request that the plans before serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedRow {
    pub request: String,
    /// Of the plan that serves it.
    pub instance: String,
}

/// # Errors
/// `dir` cannot be written to.
pub fn write(dir: &Path, rows: &[ServedRow]) -> Result<(), WriteError> {
    write_atomic_with(&dir.join(SERVED_CSV), |out| {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(SERVED_HEADER)?;
        rows.iter().try_for_each(|row| csv.write_record([&row.request, &row.instance]))?;
        csv.flush()
    })
}

/// # Errors
/// The file is gone or damaged.
pub fn read(dir: &Path) -> Result<Vec<ServedRow>, Problems> {
    let path = dir.join(SERVED_CSV);
    let mut table = Table::open(&path)?;
    let [request, instance] = SERVED_HEADER.map(|name| table.require(name));
    let mut rows = Vec::new();
    while let Some(mut row) = table.next_row() {
        if let (Some(request), Some(instance)) = (row.required_text(request), row.required_text(instance)) {
            rows.push(ServedRow { request, instance });
        }
    }
    table.finish(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_kind_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let row = |request: &str| ServedRow { request: request.into(), instance: "i0001".into() };
        let rows = vec![row("1"), row("a.csv:2"), row("a,\"b\"")];
        write(dir.path(), &rows).unwrap();
        assert_eq!(read(dir.path()).unwrap(), rows);
        write(dir.path(), &[]).unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        std::fs::write(dir.path().join(SERVED_CSV), "request_id\n1\n").unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("instance"));
    }
}
