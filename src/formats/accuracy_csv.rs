//! The accuracy table: `model, task, accuracy` in percent. Further columns (sources, notes) are allowed and ignored.

use std::path::Path;

use super::problems::Problems;
use super::table::Table;
use crate::domain::AccuracyTable;

/// Reads an accuracy table. A pair of model and task occurs once.
pub fn read(path: &Path) -> Result<AccuracyTable, Problems> {
    read_table(Table::open(path)?)
}

/// The table that `text` holds; `path` only names it in messages. For tables that are built in.
pub fn parse(text: &'static str, path: &Path) -> Result<AccuracyTable, Problems> {
    read_table(Table::new(path, Box::new(text.as_bytes()))?)
}

fn read_table(mut table: Table) -> Result<AccuracyTable, Problems> {
    let (model, task, accuracy) = (table.require("model"), table.require("task"), table.require("accuracy"));
    let mut read = AccuracyTable::default();
    while let Some(mut row) = table.next_row() {
        let key = (row.required_text(model), row.required_text(task));
        let percent = row.required_number(accuracy, 0.0, 100.0);
        let ((Some(model_name), Some(task_name)), Some(percent)) = (key, percent) else { continue };
        let what = format!("`{model_name}` has a figure for `{task_name}` already");
        if read.percent.insert((model_name, task_name), percent).is_some() {
            row.problem(model.unwrap_or(0), what, "keep one of the two rows");
        }
    }
    table.finish(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_and_repeats_refused() {
        let path = Path::new("a.csv");
        let table = parse("task,model,accuracy,source\nmmlu,m1,61.5,x\narc,m1,70,\n", path).unwrap();
        assert_eq!((table.get("m1", "mmlu"), table.get("m1", "gpqa")), (Some(61.5), None));
        let bad = parse("task,model,accuracy\nmmlu,m1,61.5\nmmlu,m1,62\nmmlu,,1\nmmlu,m2,101\n", path);
        let message = bad.unwrap_err().to_string();
        assert!(message.contains("a.csv: line 3, column 2 (model): `m1` has a figure for `mmlu` already"), "{message}");
        assert!(message.contains("line 4, column 2 (model)") && message.contains("line 5, column 3 (accuracy)"));
    }
}
