//! Puts files, jobs file and flags together. The first given wins: the request's own column, the jobs file, the flag; a
//! request's own floor binds alone; a deadline has no default.

use std::path::{Path, PathBuf};

use super::ids::Ids;
use super::jobs::Jobs;
use super::own_ids::Layout;
use super::rows::{Reading, Rows};
use super::tokens::{Sidecar, TokenCounter, read_sidecar};
use super::{Assembled, Defaults, Format, MAX_REQUESTS, WorkloadFile};
use super::{azure, class_table, csv, detect, lengths, openai_batch};
use crate::domain::{Job, Provenance, Requests, Workload};
use crate::formats::jobs_toml::JobsFile;
use crate::formats::problems::{Collector, Problems};

/// Reads workload files and combines them with the jobs file and the flags.
///
/// # Errors
/// The first file that cannot be read, or everything wrong with all of them.
pub fn assemble(files: &[PathBuf], jobs: Option<&JobsFile>, defaults: &Defaults) -> Result<Assembled, Problems> {
    assemble_with(files, jobs, defaults, Reading::default())
}

fn assemble_with(
    files: &[PathBuf],
    jobs: Option<&JobsFile>,
    defaults: &Defaults,
    reading: Reading,
) -> Result<Assembled, Problems> {
    let read = read_files(files, defaults, reading)?;
    let mut building = Jobs::new(jobs, defaults);
    let attached = building.attach_files(files);
    let mut ids = Ids::new(files);
    let mut requests = Columns::default();
    let mut placed = Vec::new();
    for ((path, File { format, mut rows, layout }), attached) in files.iter().zip(read).zip(attached) {
        let first_request = requests.group.len();
        placed.push(WorkloadFile { path: path.clone(), format, first_request, requests: rows.len() });
        if rows.len() == 0 {
            building.problem(path, "", "there is no request", "a workload file has at least one");
        }
        building.warnings.extend(rows.warnings.iter().map(|warning| format!("{}: {warning}", path.display())));
        let groups = building.groups_of(path, &rows.keys, attached);
        ids.add(rows.ids.take().zip(layout), rows.len());
        requests.append(rows, &groups);
    }
    if files.is_empty() {
        building.problem(Path::new("--workload"), "", "there is no workload file", "name at least one");
    }
    if requests.group.len() > MAX_REQUESTS {
        let what = format!("more than {MAX_REQUESTS} requests in all");
        building.problem(Path::new("--workload"), "", &what, "plan them in several queues");
    }
    building.finish(&requests.group);
    let ids = ids.finish(&mut building.problems);
    if !building.problems.is_empty() {
        return Err(Problems::BadData(building.problems));
    }
    let mut warnings = building.warnings;
    let jobs: Vec<Job> = building.jobs.into_iter().map(|draft| draft.job).collect();
    let mut spread = None;
    if let Some(confidence) = defaults.confidence.filter(|_| !requests.bounded.is_empty()) {
        let job = |request: usize| building.groups[requests.group[request] as usize].job;
        let names: Vec<String> = jobs.iter().map(|job| job.name.clone()).collect();
        let (predicted, notes) =
            lengths::predict(confidence, &mut requests.output_tokens, &requests.bounded, job, &names);
        spread = predicted;
        warnings.extend(notes);
    }
    let workload = Workload {
        jobs,
        groups: building.groups,
        requests: Requests {
            input_tokens: requests.input_tokens,
            output_tokens: requests.output_tokens,
            group: requests.group,
            ids,
        },
        input_provenance: requests.input_provenance.unwrap_or(Provenance::Imported),
        output_provenance: requests.output_provenance.unwrap_or(Provenance::Imported),
        output_spread: spread,
    };
    Ok(Assembled { workload, files: placed, rows: None, warnings })
}

/// A workload file as it stands.
struct File {
    format: Format,
    rows: Rows,
    /// Where its ids are, if it has any.
    layout: Option<Layout>,
}

/// Rows of every file; the problems of all files together.
fn read_files(files: &[PathBuf], defaults: &Defaults, reading: Reading) -> Result<Vec<File>, Problems> {
    let mut problems = Collector::new(Path::new("--workload"));
    let counter = problems.absorb(TokenCounter::open(defaults.tokenizer.as_deref()))?;
    let sidecar = match &defaults.sidecar {
        Some(path) => problems.absorb(read_sidecar(path))?,
        None => Some(Sidecar::new()),
    };
    let mut read = Vec::new();
    for path in files {
        let Some(format) = problems.absorb(defaults.format.map_or_else(|| detect(path), Ok))? else { continue };
        let unnamed = |rows| (rows, None);
        let rows = match (format, &counter, &sidecar) {
            (Format::Csv, ..) => csv::read(path, reading),
            (Format::Azure, ..) => azure::read(path, defaults.releases, reading).map(unnamed),
            (Format::ClassTable, ..) => class_table::read(path, reading).map(unnamed),
            (Format::OpenaiBatch, Some(counter), Some(sidecar)) => {
                openai_batch::read(path, counter, sidecar, reading).map(|rows| (rows, Some(Layout::OpenaiBatch)))
            }
            (Format::OpenaiBatch, ..) => continue, // what its reading needs has failed already
        };
        read.extend(problems.absorb(rows)?.map(|(rows, layout)| File { format, rows, layout }));
    }
    problems.finish(read)
}

/// The columns of all files in a row.
#[derive(Default)]
struct Columns {
    input_tokens: Vec<u32>,
    output_tokens: Vec<u32>,
    group: Vec<u32>,
    /// Requests whose outputs are only bounded.
    bounded: Vec<u32>,
    input_provenance: Option<Provenance>,
    output_provenance: Option<Provenance>,
}

impl Columns {
    /// `groups`: the group of each of the file's keys.
    fn append(&mut self, mut rows: Rows, groups: &[u32]) {
        for key in &mut rows.key {
            *key = groups[*key as usize]; // `groups` has an entry for every key of these rows
        }
        let first = self.group.len() as u32; // at most MAX_REQUESTS, or nothing comes of it
        self.bounded.extend(rows.bounded.iter().map(|row| first.saturating_add(*row)));
        let weaker = |old: Option<Provenance>, new| Some(old.map_or(new, |old| old.weaker(new)));
        self.input_provenance = weaker(self.input_provenance, rows.input_provenance);
        self.output_provenance = weaker(self.output_provenance, rows.output_provenance);
        // The first file's columns are taken over as they are: ten million requests are not copied.
        for (all, mut new) in [
            (&mut self.input_tokens, rows.input_tokens),
            (&mut self.output_tokens, rows.output_tokens),
            (&mut self.group, rows.key),
        ] {
            if all.is_empty() {
                *all = new;
            } else {
                all.append(&mut new);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use super::*;
    use crate::domain::{AccuracyRule, Floor, RequestIds};
    use crate::formats::jobs_toml;
    use crate::formats::workload::ModelPolicy;
    use crate::units::Seconds;

    /// A folder of files and the paths of those that are workloads.
    struct Case {
        folder: tempfile::TempDir,
        files: Vec<PathBuf>,
        jobs: Option<JobsFile>,
        defaults: Defaults,
    }

    impl Case {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let write = |(name, text): &(&str, &str)| {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, text).unwrap();
                path
            };
            let files = files.iter().map(write).collect();
            let defaults = Defaults { deadline: Some(Seconds(3600.0)), ..Defaults::default() };
            Self { folder, files, jobs: None, defaults }
        }

        fn jobs(mut self, text: &str) -> Self {
            let path = self.folder.path().join("jobs.toml");
            self.jobs = Some(jobs_toml::parse(text, &path, SystemTime::UNIX_EPOCH).unwrap());
            self
        }

        fn defaults(mut self, defaults: Defaults) -> Self {
            self.defaults = defaults;
            self
        }

        fn read(&self) -> Assembled {
            assemble(&self.files, self.jobs.as_ref(), &self.defaults).unwrap_or_else(|error| panic!("{error}"))
        }

        fn error(&self) -> String {
            assemble(&self.files, self.jobs.as_ref(), &self.defaults).unwrap_err().to_string()
        }
    }

    #[test]
    fn a_plain_file_is_one_job_named_by_its_stem() {
        let read = Case::new(&[("night.csv", "input_tokens,output_tokens\n10,20\n30,40\n")]).read();
        let workload = &read.workload;
        assert_eq!(workload.jobs[0].name, "night");
        assert_eq!((workload.jobs[0].deadline, workload.groups.len()), (Seconds(3600.0), 1));
        assert_eq!(
            (&workload.requests.input_tokens[..], &workload.requests.output_tokens[..]),
            (&[10, 30][..], &[20, 40][..])
        );
        assert_eq!(workload.requests.ids, RequestIds::Rows(vec![(String::new(), 0)]));
        assert_eq!(
            (workload.input_provenance, workload.output_provenance),
            (Provenance::Imported, Provenance::Imported)
        );
        assert_eq!((read.files[0].format, read.files[0].requests, read.warnings.len()), (Format::Csv, 2, 0));
    }

    #[test]
    fn the_first_given_wins() {
        let csv = "input_tokens,output_tokens,job,deadline_s,min_accuracy,release_s\n\
                   1,1,a,60,90,5\n1,1,a,,,\n1,1,b,,,\n1,1,,,,\n";
        let case = Case::new(&[("w.csv", csv)]).jobs(
            "[[job]]\nname = \"a\"\ndeadline = \"10min\"\nmin_accuracy = 70\ntask = \"t\"\nrelease = \"7s\"\n\
             [[job]]\nname = \"b\"\nmin_accuracy = 80\naccuracy_rule = \"every\"\ntask = \"u\"\npools = [\"p\"]\n",
        );
        let workload = case.read().workload;
        let [a, b, w] = &workload.jobs[..] else { panic!("three jobs") };
        assert_eq!((a.deadline, a.release), (Seconds(600.0), Seconds(7.0)));
        assert_eq!(a.floor, Some(Floor { percent: 70.0, rule: AccuracyRule::Mean }));
        assert_eq!((b.deadline, b.pools.as_deref()), (Seconds(3600.0), Some(&["p".to_owned()][..])));
        assert_eq!((w.name.as_str(), w.floor, w.release), ("w", None, Seconds::ZERO));
        let groups: Vec<_> = workload.requests.group.iter().map(|group| &workload.groups[*group as usize]).collect();
        assert_eq!(
            (groups[0].deadline, groups[0].release, groups[0].own_floor),
            (Seconds(60.0), Seconds(5.0), Some(90.0))
        );
        assert_eq!((groups[1].deadline, groups[1].release, groups[1].own_floor), (Seconds(600.0), Seconds(7.0), None));
        assert_eq!((groups[2].job, groups[2].own_floor), (1, Some(80.0)), "under `every` the floor is each request's");
    }

    #[test]
    fn a_deadline_has_no_default() {
        let csv = "input_tokens,output_tokens,deadline_s\n1,1,60\n1,1,\n1,1,\n";
        let case = Case::new(&[("w.csv", csv)]).defaults(Defaults::default());
        let message = case.error();
        assert!(
            message.contains("w.csv: line 2: 2 requests of job `w` have no deadline; give --deadline"),
            "{message}"
        );
        let all = Case::new(&[("w.csv", "input_tokens,output_tokens,deadline_s\n1,1,60\n1,1,90\n")]);
        assert_eq!(all.defaults(Defaults::default()).read().workload.jobs[0].deadline, Seconds(90.0));
    }

    #[test]
    fn floors_need_a_task_and_own_floors_replace_the_jobs() {
        let flags = |task: Option<&str>| Defaults {
            deadline: Some(Seconds(9.0)),
            min_accuracy: Some(50.0),
            task: task.map(str::to_owned),
            ..Defaults::default()
        };
        let plain = [("w.csv", "input_tokens,output_tokens\n1,1\n")];
        assert!(Case::new(&plain).defaults(flags(None)).error().contains("no task to measure it by"));
        let floor = Case::new(&plain).defaults(flags(Some("t"))).read().workload.jobs[0].floor;
        assert_eq!(floor, Some(Floor { percent: 50.0, rule: AccuracyRule::Mean }));
        let own = [("w.csv", "input_tokens,output_tokens,min_accuracy\n1,1,60\n")];
        let workload = Case::new(&own).defaults(flags(Some("t"))).read().workload;
        assert_eq!((workload.jobs[0].floor, workload.groups[0].own_floor), (None, Some(60.0)));
    }

    #[test]
    fn files_attach_to_jobs_and_ids_stay_unique() {
        let text = "input_tokens,output_tokens\n1,1\n2,2\n";
        let files = [("a/x.csv", text), ("b/x.csv", text)];
        assert!(Case::new(&files).error().contains("would both be job `x`"));
        let jobs = "[[job]]\nname = \"both\"\nfiles = [\"a/x.csv\", \"b/x.csv\"]\n[[job]]\nname = \"idle\"\n";
        let case = Case::new(&files).jobs(jobs);
        let read = case.read();
        assert_eq!((read.workload.jobs.len(), read.workload.jobs[0].name.as_str()), (1, "both"));
        assert!(read.warnings[0].ends_with("job `idle` has no requests"));
        assert_eq!(read.workload.requests.ids.get(3), format!("{}:2", case.files[1].display()));
        assert_eq!((read.files[1].first_request, read.files[1].requests), (2, 2));
        let missing = Case::new(&files[..1]).jobs("[[job]]\nname = \"j\"\nfiles = [\"y.csv\"]\n");
        assert!(missing.error().contains("jobs.toml: line 1: job `j` lists `y.csv`, which is no workload file"));
        let twice = [
            ("a.csv", "input_tokens,output_tokens,request_id\n1,1,r1\n"),
            ("b.csv", "request_id,input_tokens,output_tokens\nr0,1,1\nr1,1,1\n"),
        ];
        assert!(Case::new(&twice).error().contains("b.csv: request 2: the id `r1` occurs twice"));
        let mixed = [("a.csv", "input_tokens,output_tokens,request_id\n1,1,r1\n"), ("b.csv", text)];
        assert_eq!(
            Case::new(&mixed).read().workload.requests.ids,
            RequestIds::Named(["r1", "b.csv:1", "b.csv:2"].into_iter().collect())
        );
    }

    #[test]
    fn ids_left_in_their_files_are_the_same_ids() {
        let files = [
            ("a.csv", "input_tokens,output_tokens,request_id\n1,1,r1\n1,1,r2\n"),
            ("b.csv", "input_tokens,output_tokens\n2,2\n"),
            ("c.jsonl", "{\"custom_id\":\"r3\",\"body\":{\"prompt\":\"x\",\"max_tokens\":1}}\n"),
        ];
        let case = Case::new(&files);
        let stored = Reading { held_bytes: 0, ..Reading::default() };
        let ids = assemble_with(&case.files, None, &case.defaults, stored).unwrap().workload.requests.ids;
        assert!(matches!(ids, RequestIds::Kept(_)));
        assert_eq!(ids, case.read().workload.requests.ids);
        let names: Vec<String> = (0..4).map(|request| ids.get(request)).collect();
        assert_eq!(names, ["r1", "r2", "b.csv:1", "r3"]);
        let mut seen = Vec::new();
        ids.visit(1..3, &mut |index, name| seen.push((index, name.to_owned()))).unwrap();
        assert_eq!(seen, [(1, "r2".to_owned()), (2, "b.csv:1".to_owned())]);

        let twice = [files[0], ("d.csv", "input_tokens,output_tokens,request_id\n1,1,b.csv:1\n1,1,r2\n"), files[1]];
        let case = Case::new(&twice);
        let error = assemble_with(&case.files, None, &case.defaults, stored).unwrap_err().to_string();
        assert_eq!(error, case.error());
        assert!(error.contains("d.csv: request 2: the id `r2` occurs twice"), "{error}");
        assert!(error.contains("b.csv: request 1: the id `b.csv:1` occurs twice"), "{error}");
    }

    #[test]
    fn packed_files_are_read_and_name_their_job_as_if_they_were_not() {
        let text = "request_id,input_tokens,output_tokens\na,10,20\n";
        let case = Case::new(&[("night.csv", text)]);
        let packed = case.folder.path().join("night.csv.zst");
        fs::write(&packed, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
        let read = assemble(&[packed], None, &case.defaults).unwrap();
        assert_eq!(read.workload, case.read().workload);
        let jobs = "[[job]]\nname = \"all\"\nfiles = [\"nig*.csv\"]\n";
        assert_eq!(case.jobs(jobs).read().workload.jobs[0].name, "all", "a pattern names files in the jobs file too");
    }

    #[test]
    fn model_policies() {
        let files = [("w.csv", "input_tokens,output_tokens,model\n1,1,m\n1,1,n\n")];
        let policy = |model_policy| Defaults { deadline: Some(Seconds(9.0)), model_policy, ..Defaults::default() };
        let any = Case::new(&files).defaults(policy(ModelPolicy::Any)).read().workload;
        assert_eq!((any.groups.len(), &any.groups[0].pinned_models), (1, &None));
        let pin = Case::new(&files).defaults(policy(ModelPolicy::Pin)).read().workload;
        assert_eq!(pin.groups[1].pinned_models, Some(vec!["n".to_owned()]));
        let map = Case::new(&files).jobs("[map]\nm = [\"a\", \"b\"]\n").defaults(policy(ModelPolicy::Map));
        assert!(map.error().contains("w.csv: line 3 (model): `n` is not in `[map]`"));
        let map = Case::new(&files).jobs("[map]\nm = [\"a\", \"b\"]\nn = [\"a\"]\n").defaults(policy(ModelPolicy::Map));
        assert_eq!(map.read().workload.groups[0].pinned_models, Some(vec!["a".to_owned(), "b".to_owned()]));
        let unnamed = [("w.csv", "input_tokens,output_tokens\n1,1\n")];
        assert!(Case::new(&unnamed).defaults(policy(ModelPolicy::Pin)).error().contains("names no model"));
    }

    #[test]
    fn azure_timestamps_count_only_for_releases() {
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.5000000,374,44\r\n2023-11-16 18:15:50.2500000,396,109";
        let case = Case::new(&[("azure.csv", text)]);
        assert_eq!(case.read().workload.groups.len(), 1);
        let releases = Defaults { deadline: Some(Seconds(9.0)), releases: true, ..Defaults::default() };
        let workload = case.defaults(releases).read().workload;
        assert_eq!((workload.groups[0].release, workload.groups[1].release), (Seconds(0.0), Seconds(3.75)));
        assert_eq!(workload.jobs[0].release, Seconds(0.0));
    }

    #[test]
    fn class_tables_expand_and_bounds_are_estimates() {
        let read = Case::new(&[("c.csv", "input_tokens,output_tokens,count\n5,6,2\n7,8,1\n")]).read();
        assert_eq!(
            (read.files[0].format, &read.workload.requests.input_tokens[..]),
            (Format::ClassTable, &[5, 5, 7][..])
        );
        let bounded =
            Case::new(&[("m.csv", "input_tokens,max_tokens,output_tokens,note\n5,100,\"\",x\n5,100,7,y\n")]).read();
        assert_eq!(&bounded.workload.requests.output_tokens[..], &[100, 7]);
        assert_eq!(bounded.workload.output_provenance, Provenance::Estimated);
        assert!(bounded.warnings[0].ends_with("columns not used: note") && bounded.warnings[1].contains("1 requests"));
        let bomb = Case::new(&[("c.csv", "input_tokens,output_tokens,count\n5,6,2\n5,6,50000001\n")]);
        assert!(bomb.error().contains("c.csv: line 3, column 3 (count): 50000001 is out of range"));
    }

    #[test]
    fn batch_lines_are_counted_as_well_as_is_known() {
        let text = "{\"custom_id\":\"a\",\"url\":\"/v1/chat/completions\",\"body\":{\"model\":\"g\",\"messages\":[{\"role\":\"user\",\"content\":\"12345678 \"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"abcd\"}]}],\"max_tokens\":64}}\r\n\n\
                    {\"custom_id\":\"b\",\"body\":{\"prompt\":[1,2,3],\"max_completion_tokens\":5,\"max_tokens\":9}}\n\
                    {\"custom_id\":\"c\",\"input_tokens\":11,\"output_tokens\":12,\"body\":{\"prompt\":\"x\"}}";
        let case = Case::new(&[("b.jsonl", text)]);
        let read = case.read();
        let requests = &read.workload.requests;
        assert_eq!((&requests.input_tokens[..], &requests.output_tokens[..]), (&[4, 3, 11][..], &[64, 5, 12][..]));
        assert_eq!(requests.ids, RequestIds::Named(["a", "b", "c"].into_iter().collect()));
        assert_eq!(
            (read.workload.input_provenance, read.workload.output_provenance),
            (Provenance::Estimated, Provenance::Estimated)
        );
        assert_eq!(read.warnings.len(), 2);

        let sidecar = case.folder.path().join("s.csv");
        fs::write(&sidecar, "custom_id,input_tokens,output_tokens\na,100,200\nb,,7\n").unwrap();
        let defaults = Defaults { sidecar: Some(sidecar), ..case.defaults.clone() };
        let read = assemble(&case.files, None, &defaults).unwrap();
        assert_eq!(&read.workload.requests.input_tokens[..], &[100, 3, 11]);
        assert_eq!(&read.workload.requests.output_tokens[..], &[200, 7, 12]);
        assert_eq!((read.workload.output_provenance, read.warnings.len()), (Provenance::Imported, 0));
    }

    #[test]
    fn a_tokenizer_counts_text() {
        let tokenizer = r#"{"version":"1.0","added_tokens":[],"pre_tokenizer":{"type":"Whitespace"},
            "model":{"type":"WordLevel","vocab":{"a":0,"b":1,"[UNK]":2},"unk_token":"[UNK]"}}"#;
        let line = "{\"custom_id\":\"a\",\"body\":{\"prompt\":\"a b a zzzzzzzzzzzzzzzzz\",\"max_tokens\":1}}\n";
        let case = Case::new(&[("b.jsonl", line)]);
        let path = case.folder.path().join("tokenizer.json");
        fs::write(&path, tokenizer).unwrap();
        let defaults = Defaults { tokenizer: Some(path.clone()), ..case.defaults.clone() };
        let workload = assemble(&case.files, None, &defaults).unwrap().workload;
        assert_eq!((workload.requests.input_tokens[0], workload.input_provenance), (4, Provenance::Imported));
        fs::write(&path, "{}").unwrap();
        assert!(
            assemble(&case.files, None, &defaults).unwrap_err().to_string().contains("tokenizer.json: no tokenizer")
        );
    }

    #[test]
    fn all_files_are_read_before_giving_up() {
        let case = Case::new(&[
            ("a.csv", "input_tokens,output_tokens\n1,0\n1e300,-1\n"),
            ("b.csv", "input_tokens,output_tokens\n1.5,nan\n"),
        ]);
        let message = case.error();
        assert_eq!(message.lines().count(), 5, "{message}");
        assert!(message.contains("a.csv: line 2, column 2 (output_tokens): 0 is out of range"));
        assert!(message.contains("b.csv: line 2, column 1 (input_tokens): 1.5 is not whole"));
        let gone = assemble(&[PathBuf::from("/nowhere/w.csv")], None, &case.defaults);
        assert!(matches!(gone, Err(Problems::Unreadable { .. })));
    }
}
