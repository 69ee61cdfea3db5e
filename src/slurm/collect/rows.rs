//! Answers to rows of CSV files: the caller's rows, each with what a command made of it.
//!
//! A command reads the rows of `{shard}` and may write `{output}`: CSV with a header, and a row for each of the shard's, in
//! their order or under their `request_id`. A request finds its row in the shard by its cells; of rows with the same cells
//! the first is as good as the second, since a command cannot tell them apart either. A command that writes elsewhere is
//! taken at its word, and its answers stay where they are.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use super::super::shard_state::{done_mark, result_of};
use super::{Asked, CollectError, Collected};
use crate::formats::job_scripts::JobScripts;
use crate::formats::shards::{Columns, append_record, columns, for_each_row};
use crate::formats::table::Table;
use crate::formats::workload::WorkloadFile;
use crate::formats::write::write_atomic_with;

/// The column that names a request.
const REQUEST_ID: &str = "request_id";

/// Rows of shards and what was made of them.
pub struct Rows<'a> {
    /// Columns of the caller's files together.
    header: Vec<String>,
    /// Columns of the commands' outputs together.
    fields: Vec<String>,
    shards: BTreeMap<&'a str, Shard>,
}

struct Shard {
    /// Rows of these cells that no request has taken yet, the last one first.
    rows: HashMap<Vec<u8>, Vec<usize>>,
    made: Made,
}

/// What a command made of a shard.
enum Made {
    Nothing,
    /// It has done the shard and written no `{output}`.
    Elsewhere,
    /// The cells of `fields` for each row of the shard, as CSV.
    Rows(Vec<Option<Vec<u8>>>),
}

/// What the command made of a request.
pub enum Answer<'a> {
    None,
    Elsewhere,
    Cells(&'a [u8]),
}

impl<'a> Rows<'a> {
    /// Reads the shards of CSV rows and the outputs of their commands.
    ///
    /// # Errors
    /// Files that cannot be read; an output that has other rows than its shard.
    pub fn read(dir: &Path, scripts: &'a JobScripts, files: &[WorkloadFile]) -> Result<Self, CollectError> {
        let header = columns(files)?;
        let mut found = Self { header, fields: Vec::new(), shards: BTreeMap::new() };
        let shards = || {
            let of = |name: &&String| name.ends_with(".csv");
            scripts
                .instances()
                .flat_map(move |instance| instance.shards.iter().filter(of).map(move |name| (instance, name)))
        };
        for (_, name) in shards() {
            let output = result_of(dir, name);
            if done_mark(&output).exists() && output.exists() {
                for column in Table::open(&output)?.into_header() {
                    if column != REQUEST_ID && !found.fields.contains(&column) {
                        found.fields.push(column);
                    }
                }
            }
        }
        for (instance, name) in shards() {
            let shard = found.shard(&dir.join(name), &result_of(dir, name))?;
            found.shards.insert(&instance.instance, shard);
        }
        Ok(found)
    }

    fn shard(&self, path: &Path, output: &Path) -> Result<Shard, CollectError> {
        let mut rows: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        let mut ids: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut table = Table::open(path)?;
        let (id, cells) = (table.column(REQUEST_ID), Columns::of(&table, &self.header));
        let mut number = 0;
        while let Some(row) = table.next_row() {
            let mut record = Vec::new();
            cells.append(&row, &mut record);
            rows.entry(record).or_default().push(number);
            ids.extend(id.map(|id| (row.raw(id).to_vec(), number)));
            number += 1;
        }
        table.finish(())?;
        rows.values_mut().for_each(|numbers| numbers.reverse());
        let made = match (done_mark(output).exists(), output.exists()) {
            (false, _) => Made::Nothing,
            (true, false) => Made::Elsewhere,
            (true, true) => Made::Rows(self.output(output, number, &ids)?),
        };
        Ok(Shard { rows, made })
    }

    /// The rows of an output in order of its shard's.
    fn output(
        &self,
        path: &Path,
        rows: usize,
        ids: &HashMap<Vec<u8>, usize>,
    ) -> Result<Vec<Option<Vec<u8>>>, CollectError> {
        let mut table = Table::open(path)?;
        let id = table.column(REQUEST_ID).filter(|_| !ids.is_empty());
        let cells = Columns::of(&table, &self.fields);
        let mut made = vec![None; rows];
        let mut number = 0;
        while let Some(mut row) = table.next_row() {
            let place = match id {
                Some(id) => ids.get(row.raw(id)).copied(),
                None => Some(number).filter(|number| *number < rows),
            };
            match place {
                Some(place) => {
                    let mut record = Vec::new();
                    cells.append(&row, &mut record);
                    // The first answer counts, as it does for answers to text.
                    made[place].get_or_insert(record);
                }
                None if id.is_some() => {
                    row.problem(
                        id.unwrap_or(0),
                        "its shard has no such request",
                        "write the request_id of the shard's row",
                    );
                }
                None => {}
            }
            number += 1;
        }
        if id.is_none() && number != rows {
            let remedy = "write one row for each row of {shard}, in its order, or a column request_id where the workload has one";
            table.problems.add("", format!("{number} rows for the {rows} rows of its shard"), remedy);
        }
        Ok(table.finish(made)?)
    }

    /// What was made of a request of these cells.
    fn answer(&mut self, instance: &str, record: &[u8]) -> Option<Answer<'_>> {
        let shard = self.shards.get_mut(instance)?;
        let row = shard.rows.get_mut(record)?.pop()?;
        Some(match &shard.made {
            Made::Nothing => Answer::None,
            Made::Elsewhere => Answer::Elsewhere,
            Made::Rows(rows) => {
                rows.get(row).and_then(Option::as_ref).map_or(Answer::None, |cells| Answer::Cells(cells))
            }
        })
    }

    /// The requests of a file, counted in `collected` and appended to the rows of their jobs.
    ///
    /// # Errors
    /// A file that cannot be read, or is not the one that was planned.
    pub fn gather(
        &mut self,
        file: &WorkloadFile,
        asked: &Asked<'_>,
        collected: &mut [Collected],
        jobs: &mut [Vec<u8>],
    ) -> Result<(), CollectError> {
        let header = self.header.clone();
        let (with_ids, with_fields) = (self.has_ids(), !self.fields.is_empty());
        let (mut request, end) = (file.first_request, file.first_request + file.requests);
        let mut wrong = None;
        for_each_row(file, &header, |record| {
            if wrong.is_some() || request >= end {
                return;
            }
            let job = asked.job.get(request).copied().unwrap_or(0);
            let instance = asked.instance.get(request).map_or("", String::as_str);
            let id = asked.id.get(request).map_or("", String::as_str);
            request += 1;
            if instance.is_empty() {
                return;
            }
            collected[job].requests += 1;
            match self.answer(instance, record) {
                None => wrong = Some(CollectError::NotInShard { id: id.to_owned(), instance: instance.to_owned() }),
                Some(Answer::None) => {}
                Some(Answer::Elsewhere) => collected[job].elsewhere += 1,
                Some(Answer::Cells(cells)) => {
                    collected[job].answered += 1;
                    let out = &mut jobs[job];
                    if !with_ids {
                        append_record(out, || std::iter::once(id.as_bytes()));
                        join(out);
                    }
                    out.extend_from_slice(record);
                    if with_fields {
                        join(out);
                        out.extend_from_slice(cells);
                    }
                }
            }
        })?;
        wrong.map_or(Ok(()), Err)
    }

    fn has_ids(&self) -> bool {
        self.header.iter().any(|column| column == REQUEST_ID)
    }

    /// Writes the rows of a job under the columns of the caller and of the commands.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn write(&self, path: &Path, rows: &[u8]) -> Result<(), CollectError> {
        let own = Some(REQUEST_ID.to_owned()).filter(|_| !self.has_ids());
        // What the command found beside what the caller gave: an output length beside the planned one, say.
        let field = |name: &String| if self.header.contains(name) { format!("result_{name}") } else { name.clone() };
        let names: Vec<String> =
            own.into_iter().chain(self.header.iter().cloned()).chain(self.fields.iter().map(field)).collect();
        let mut head = Vec::new();
        append_record(&mut head, || names.iter().map(String::as_bytes));
        Ok(write_atomic_with(path, |out| {
            out.write_all(&head)?;
            out.write_all(rows)
        })?)
    }
}

/// Lets the next cells follow in the same row.
fn join(row: &mut Vec<u8>) {
    if row.last() == Some(&b'\n') {
        row.pop();
    }
    row.push(b',');
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::collect;
    use super::*;
    use crate::formats::shards::{Split, write as write_shards};
    use crate::formats::workload::Format;

    struct Case {
        dir: tempfile::TempDir,
        files: Vec<WorkloadFile>,
        shards: Vec<Vec<String>>,
        assignment: Vec<u32>,
    }

    /// Two files of rows, every second request on the second instance, in reverse order there.
    fn case(texts: [&str; 2], requests: [usize; 2]) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let file = |index: usize| {
            let path = dir.path().join(format!("w{index}.csv"));
            fs::write(&path, texts[index]).unwrap();
            let format = if texts[index].contains("count") { Format::ClassTable } else { Format::Csv };
            WorkloadFile { path, format, first_request: index * requests[0], requests: requests[index] }
        };
        let files = vec![file(0), file(1)];
        let all = requests[0] + requests[1];
        let assignment: Vec<u32> = (0..all as u32).map(|request| request % 2).collect();
        let rank: Vec<u32> = (0..all as u32).map(|request| 1000 - request).collect();
        let split = Split { assignment: &assignment, served_names: &["m", "m"], rank: Some(&rank) };
        let shards = write_shards(dir.path(), &files, &split).unwrap();
        Case { dir, files, shards, assignment }
    }

    impl Case {
        /// Lets a command make its output of a shard's lines.
        fn made(&self, instance: usize, make: impl Fn(&[&str]) -> String) {
            let name = &self.shards[instance][0];
            let shard = fs::read_to_string(self.dir.path().join(name)).unwrap();
            let output = result_of(self.dir.path(), name);
            fs::create_dir_all(output.parent().unwrap()).unwrap();
            fs::write(&output, make(&shard.lines().skip(1).collect::<Vec<_>>())).unwrap();
            fs::write(done_mark(&output), "").unwrap();
        }

        fn collected(&self) -> Result<(Vec<Collected>, Vec<String>), CollectError> {
            let instance = |index: usize| {
                serde_json::json!({"instance": format!("i{index:04}"), "node": "n", "devices": [],
                "begin_s": 0, "start_s": 0, "end_s": 1, "time_limit_min": 1, "after": [], "shards": self.shards[index], "energy_j": 0,
                "load_j": 0, "jobs": []})
            };
            let scripts: JobScripts = serde_json::from_value(serde_json::json!({"schema_version": 1, "scripts": [{"file": "",
                "pool": "p", "kind": "cpu", "partition": null, "deployment": "d", "options": [], "nodes": "", "other_nodes": "",
                "time_limit_min": 1, "deadline_s": null, "instances": [instance(0), instance(1)]}]}))
            .unwrap();
            let job: Vec<usize> =
                self.files.iter().enumerate().flat_map(|(job, file)| vec![job; file.requests]).collect();
            let id: Vec<String> = (1..=job.len()).map(|number| format!("n{number}")).collect();
            let asked = Asked {
                files: &self.files,
                jobs: &["one".to_owned(), "two".to_owned()],
                job: &job,
                id: &id,
                instance: &self.assignment.iter().map(|index| format!("i{index:04}")).collect::<Vec<_>>(),
            };
            let collected = collect(self.dir.path(), &scripts, &asked, &self.dir.path().join("out"))?;
            let read =
                |job: &Collected| job.files.first().map(|path| fs::read_to_string(path).unwrap()).unwrap_or_default();
            let texts = collected.iter().map(read).collect();
            Ok((collected, texts))
        }
    }

    fn counts(collected: &[Collected]) -> Vec<(u64, u64, u64)> {
        collected.iter().map(|job| (job.requests, job.answered, job.elsewhere)).collect()
    }

    #[test]
    fn rows_come_back_in_the_callers_order_under_its_columns() {
        let case = case(
            [
                "request_id,input_tokens,note\na,1,\"x,\"\"y\"\"\"\nb,2,\nc,3,plain\n",
                "input_tokens,request_id\n9,d\n8,e\n",
            ],
            [3, 2],
        );
        // By id, in whatever order; one of the fields is a column of the caller's.
        case.made(0, |rows| {
            let mut lines: Vec<String> =
                rows.iter().map(|row| format!("{0},out of {0},7\n", row.split(',').next().unwrap())).collect();
            lines.reverse();
            "request_id,text,input_tokens\n".to_owned() + &lines.concat()
        });
        // By order.
        case.made(1, |rows| {
            "score,text\n".to_owned() + &rows.iter().map(|row| format!("\"{}\",\n", &row[..1])).collect::<String>()
        });
        let (collected, texts) = case.collected().unwrap();
        assert_eq!(counts(&collected), [(3, 3, 0), (2, 2, 0)]);
        assert_eq!(
            texts,
            [
                "request_id,input_tokens,note,text,result_input_tokens,score\na,1,\"x,\"\"y\"\"\",out of a,7,\nb,2,,,,b\n\
                 c,3,plain,out of c,7,\n",
                "request_id,input_tokens,note,text,result_input_tokens,score\nd,9,,,,d\ne,8,,out of e,7,\n",
            ]
        );
    }

    #[test]
    fn rows_without_ids_are_told_by_their_cells_and_get_names() {
        let case = case(["input_tokens\n1\n2\n1\n3\n", "input_tokens,count\n4,2\n5,1\n"], [4, 3]);
        // Requests 1, 3, 5 and 7 are here: 1, 1, 4 and 5 tokens, last first.
        case.made(0, |rows| "twice\n".to_owned() + &rows.iter().map(|row| format!("{row}{row}\n")).collect::<String>());
        let (collected, texts) = case.collected().unwrap();
        assert_eq!(counts(&collected), [(4, 2, 0), (3, 2, 0)]);
        assert_eq!(
            texts,
            ["request_id,input_tokens,twice\nn1,1,11\nn3,1,11\n", "request_id,input_tokens,twice\nn5,4,44\nn7,5,55\n"]
        );
    }

    #[test]
    fn an_output_of_other_rows_is_refused_and_one_elsewhere_is_none() {
        let texts = ["request_id,input_tokens\na,1\nb,2\nc,3\n", "input_tokens\n4\n"];
        let case = case(texts, [3, 1]);
        case.made(0, |_| "x\n1\n".to_owned());
        let error = case.collected().unwrap_err().to_string();
        assert!(error.contains("1 rows for the 2 rows") && error.contains("i0001.csv"), "{error}");
        case.made(0, |_| "request_id,x\nnobody,1\n".to_owned());
        let error = case.collected().unwrap_err().to_string();
        assert!(error.contains("no such request") && error.contains("line 2"), "{error}");

        case.made(0, |_| String::new());
        case.made(1, |_| String::new());
        for instance in [0, 1] {
            fs::remove_file(result_of(case.dir.path(), &case.shards[instance][0])).unwrap();
        }
        let (collected, texts) = case.collected().unwrap();
        assert_eq!((counts(&collected), texts.concat().as_str()), (vec![(3, 0, 3), (1, 0, 1)], ""));
        fs::write(&case.files[0].path, "request_id,input_tokens\na,1\nb,2\nz,3\n").unwrap();
        assert!(matches!(case.collected(), Err(CollectError::NotInShard { .. })));
    }
}
