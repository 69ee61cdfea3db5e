//! The options CSV, for planning without models: `option, class_or_request, energy_j, seconds, pool, devices, capacity_s
//! [, requests]`. A row says what one request of a class costs and takes on an option.
//!
//! Capacity, pool and devices are the option's, `requests` (1 where absent) is the class's: each is given in one of their
//! rows or more, and never two different ones. An option without a capacity has no limit.

use std::collections::HashMap;
use std::path::Path;

use super::problems::Problems;
use super::table::{Row, Table};
use crate::domain::{Choice, OptionClass, OptionTable, ServiceOption};

pub const COLUMNS: [&str; 8] =
    ["option", "class_or_request", "energy_j", "seconds", "pool", "devices", "capacity_s", "requests"];
pub const REQUIRED: [&str; 4] = ["option", "class_or_request", "energy_j", "seconds"];

/// Largest figure; beyond it lies a mistake, and sums that lose their joules to rounding.
const MOST: f64 = 1e15;

/// Reads an options CSV; options and classes in order of appearance.
///
/// # Errors
/// `Unreadable`, or every problem of the file.
pub fn read(path: &Path) -> Result<OptionTable, Problems> {
    let mut table = Table::open(path)?;
    let [option, class, energy, seconds] = REQUIRED.map(|name| table.require(name));
    let [pool, devices, capacity, requests] =
        ["pool", "devices", "capacity_s", "requests"].map(|name| table.column(name));
    let unknown: Vec<String> =
        table.header().iter().filter(|name| !COLUMNS.contains(&name.as_str())).cloned().collect();
    for name in unknown {
        table.problems.add("line 1", format!("column `{name}` is none of an options CSV"), COLUMNS.join(", "));
    }
    let mut building = Building::default();
    while let Some(mut row) = table.next_row() {
        let names = (row.required_text(option), row.required_text(class));
        let choice = (row.required_number(energy, 0.0, MOST), row.required_number(seconds, 0.0, MOST));
        let facts = (row.text(pool), row.whole(devices, 1, 1_000_000), row.number(capacity, 0.0, MOST));
        let count = row.whole(requests, 1, 1_000_000_000);
        let ((Some(option_name), Some(class_name)), (Some(energy), Some(seconds))) = (names, choice) else { continue };
        let at = building.option(option_name);
        let known = &mut building.table.options[at];
        agree(&mut row, pool, &mut known.pool, facts.0);
        agree(&mut row, devices, &mut known.devices, facts.1);
        agree(&mut row, capacity, &mut known.capacity, facts.2);
        let class_at = building.class(class_name);
        agree(&mut row, requests, &mut building.counts[class_at], count);
        let choices = &mut building.table.classes[class_at].choices;
        if choices.iter().any(|other| other.option == at) {
            row.problem(class.unwrap_or(0), "a second row of this class on this option", "keep one of the two");
        }
        choices.push(Choice { option: at, energy, seconds });
    }
    if building.table.classes.is_empty() && table.problems.is_empty() {
        table.problems.add("line 2", "there is no row", "an options CSV says at least where one request can run");
    }
    table.finish(building.finish())
}

/// Takes over what a row says of its option or class; it must not contradict an earlier one.
fn agree<T: PartialEq + std::fmt::Debug>(
    row: &mut Row<'_>,
    column: Option<usize>,
    known: &mut Option<T>,
    said: Option<T>,
) {
    match (known.as_ref(), said) {
        (Some(before), Some(now)) if *before != now => {
            row.problem(
                column.unwrap_or(0),
                format!("{now:?}, but {before:?} in an earlier row"),
                "give one of the two",
            );
        }
        (None, Some(now)) => *known = Some(now),
        _ => {}
    }
}

#[derive(Default)]
struct Building {
    table: OptionTable,
    counts: Vec<Option<u32>>,
    options: HashMap<String, usize>,
    classes: HashMap<String, usize>,
}

impl Building {
    fn option(&mut self, name: String) -> usize {
        let options = &mut self.table.options;
        *self.options.entry(name).or_insert_with_key(|name| {
            options.push(ServiceOption { name: name.clone(), pool: None, devices: None, capacity: None });
            options.len() - 1
        })
    }

    fn class(&mut self, name: String) -> usize {
        let (classes, counts) = (&mut self.table.classes, &mut self.counts);
        *self.classes.entry(name).or_insert_with_key(|name| {
            classes.push(OptionClass { name: name.clone(), requests: 1, choices: Vec::new() });
            counts.push(None);
            classes.len() - 1
        })
    }

    fn finish(mut self) -> OptionTable {
        for (class, count) in self.table.classes.iter_mut().zip(self.counts) {
            class.requests = u64::from(count.unwrap_or(1));
            class.choices.sort_by_key(|choice| choice.option);
        }
        self.table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<OptionTable, Problems> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("o.csv");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn rows_become_options_and_classes() {
        let table = parse(
            "option,class_or_request,energy_j,seconds,pool,devices,capacity_s,requests\n\
             2xA100,LL,5,1,a100,2,60,7\n8xA100,LL,4,0.5,,,,\n8xA100,SS,9,0.5,a100,8,,\n",
        )
        .unwrap();
        assert_eq!(table.options[0].capacity, Some(60.0));
        assert_eq!((table.options[1].capacity, table.options[1].devices), (None, Some(8)));
        assert_eq!((table.classes[0].requests, table.classes[1].requests, table.requests()), (7, 1, 8));
        assert_eq!(table.classes[0].choices[1], Choice { option: 1, energy: 4.0, seconds: 0.5 });
    }

    #[test]
    fn every_contradiction_is_named() {
        let error = parse(
            "option,class_or_request,energy_j,seconds,capacity_s,requests,note\n\
             a,r,1,1,5,,\na,r,1,1,6,,\nb,r,-1,nan,,2,\nb,s,1,1,,0,\nb,r,1,1,,3,\na,r,2,2,,4,\n",
        )
        .unwrap_err()
        .to_string();
        for expected in [
            "column `note` is none",
            "line 3, column 5 (capacity_s): 6.0, but 5.0",
            "line 3, column 2 (class_or_request): a second row",
            "line 4, column 3 (energy_j): -1 is out of range",
            "line 5, column 6 (requests): 0 is out of range",
            "line 7, column 6 (requests): 4, but 3",
        ] {
            assert!(error.contains(expected), "{expected} is not in\n{error}");
        }
        assert!(parse("option,class_or_request,energy_j,seconds\n").is_err());
    }
}
