//! One call of sbatch: the tasks of a script that are submitted together, and what is told to Slurm about each of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::formats::job_scripts::{InstanceScript, JobScript};

/// An instance that is to be submitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Task<'a> {
    /// Its place in the script.
    pub index: usize,
    pub instance: &'a InstanceScript,
    /// `None`: any node of the pool.
    pub node: Option<String>,
    /// Seconds from now.
    pub begin_s: u64,
    /// Instances to wait for.
    pub after: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Batch<'a> {
    pub script: &'a JobScript,
    /// Of the script's instances; what its tasks' numbers count from.
    pub offset: usize,
    pub tasks: Vec<Task<'a>>,
}

impl<'a> Batch<'a> {
    /// Batches of the tasks of one script, none of which has a task's number above `most`.
    pub fn of(script: &'a JobScript, tasks: Vec<Task<'a>>, most: usize) -> Vec<Self> {
        let mut windows: BTreeMap<usize, Vec<Task<'a>>> = BTreeMap::new();
        for task in tasks {
            windows.entry(task.index / most).or_default().push(task);
        }
        windows.into_iter().map(|(window, tasks)| Self { script, offset: window * most, tasks }).collect()
    }

    /// A single task is submitted as a plain job.
    pub fn is_array(&self) -> bool {
        self.tasks.len() > 1
    }

    /// What the script counts tasks from: a plain job has no task number.
    pub fn script_offset(&self) -> usize {
        if self.is_array() { self.offset } else { self.tasks.first().map_or(0, |task| task.index) }
    }

    /// The value of `--array`.
    pub fn array(&self) -> String {
        let numbers: Vec<usize> = self.tasks.iter().map(|task| task.index - self.offset).collect();
        ranges(&numbers)
    }

    /// The id of a task under the id that sbatch printed.
    pub fn job_id(&self, submitted: &str, task: &Task<'_>) -> String {
        match self.is_array() {
            true => format!("{submitted}_{}", task.index - self.offset),
            false => submitted.to_owned(),
        }
    }

    /// Whether its tasks must be told apart, or wait for others, before they may start.
    pub fn is_held(&self) -> bool {
        let like_first = |task: &Task| {
            let first = &self.tasks[0];
            (&task.node, task.begin_s, task.instance.time_limit_min)
                == (&first.node, first.begin_s, first.instance.time_limit_min)
        };
        self.tasks.iter().any(|task| !task.after.is_empty() || !like_first(task))
    }

    /// Options that all tasks have in common, beside those of the script.
    pub fn options(&self) -> Vec<String> {
        let mut options: Vec<String> = self.script.options.iter().map(|option| format!("--{option}")).collect();
        if self.is_array() {
            options.push(format!("--array={}", self.array()));
        }
        let Some(first) = self.tasks.first() else { return options };
        if !self.is_array() || !self.is_held() {
            options.extend(first.node.as_ref().map(|node| format!("--nodelist={node}")));
            options.push(format!("--time={}", first.instance.time_limit_min));
            if first.begin_s > 0 {
                options.push(format!("--begin=now+{}seconds", first.begin_s));
            }
        }
        let any_node = self.tasks.iter().all(|task| task.node.is_none());
        if any_node && !self.script.other_nodes.is_empty() {
            options.push(format!("--exclude={}", self.script.other_nodes));
        }
        if self.is_held() {
            options.push("--hold".to_owned());
        }
        options
    }

    /// Commands to scontrol that tell the tasks of an array apart. Afterwards each task is a job of its own to Slurm.
    pub fn apart(&self, submitted: &str) -> Vec<String> {
        if !self.is_held() || !self.is_array() {
            return Vec::new();
        }
        let words = |task: &Task| {
            let begin =
                if task.begin_s > 0 { format!(" StartTime=now+{}seconds", task.begin_s) } else { String::new() };
            let node = task.node.as_ref().map(|node| format!(" ReqNodeList={node}")).unwrap_or_default();
            format!(" TimeLimit={}{begin}{node}", task.instance.time_limit_min)
        };
        // scontrol takes a node for one task at a time, everything else for several.
        self.like(words, |task| task.node.is_none(), submitted)
    }

    /// Commands that make tasks wait for others, which must be jobs of their own by then; `job` knows an instance's.
    pub fn dependencies(&self, submitted: &str, job: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let words = |task: &Task| {
            let after: BTreeSet<String> = task.after.iter().filter_map(|instance| job(instance)).collect();
            let after: Vec<&str> = after.iter().map(String::as_str).collect();
            if after.is_empty() { String::new() } else { format!(" Dependency=afterany:{}", after.join(":")) }
        };
        self.like(words, |_| true, submitted)
    }

    /// One command for all tasks with the same words, as far as they may share one.
    fn like(&self, words: impl Fn(&Task) -> String, may_share: impl Fn(&Task) -> bool, submitted: &str) -> Vec<String> {
        let mut like: BTreeMap<(String, usize), Vec<usize>> = BTreeMap::new();
        for task in &self.tasks {
            let number = task.index - self.offset;
            let own = if may_share(task) { 0 } else { number + 1 };
            like.entry((words(task), own)).or_default().push(number);
        }
        let id = |numbers: &[usize]| match (self.is_array(), numbers) {
            (false, _) => submitted.to_owned(),
            (true, [one]) => format!("{submitted}_{one}"),
            (true, _) => format!("{submitted}_[{}]", ranges(numbers)),
        };
        let said = like.iter().filter(|((words, _), _)| !words.is_empty());
        said.map(|((words, _), numbers)| format!("update JobId={}{words}", id(numbers))).collect()
    }
}

/// `0-3,7`
fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => parts.push((number, number)),
        }
    }
    let text =
        |&(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(instances: usize) -> JobScript {
        let instance = |index: usize| InstanceScript {
            instance: format!("i{:04}", index + 1),
            node: format!("n{}", index % 2 + 1),
            devices: vec![0],
            begin_s: 0.0,
            start_s: 0.0,
            end_s: 60.0,
            time_limit_min: 11,
            after: Vec::new(),
            shards: Vec::new(),
            energy_j: 0.0,
            load_j: 0.0,
            jobs: Vec::new(),
        };
        JobScript {
            file: "slurm/i0001.sbatch".into(),
            pool: "p".into(),
            kind: "gpu".into(),
            partition: None,
            deployment: "d".into(),
            options: vec!["qos=two words".into()],
            nodes: "n[1-2]".into(),
            other_nodes: String::new(),
            time_limit_min: 11,
            deadline_s: None,
            instances: (0..instances).map(instance).collect(),
        }
    }

    fn task(script: &JobScript, index: usize) -> Task<'_> {
        let instance = &script.instances[index];
        Task { index, instance, node: Some(instance.node.clone()), begin_s: 0, after: instance.after.clone() }
    }

    #[test]
    fn like_tasks_are_told_apart_together() {
        let script = script(5);
        let batches = Batch::of(&script, (0..5).map(|index| task(&script, index)).collect(), 3);
        assert_eq!(
            batches.iter().map(|batch| (batch.offset, batch.array())).collect::<Vec<_>>(),
            [(0, "0-2".to_owned()), (3, "0-1".to_owned())]
        );
        let options = batches[0].options();
        assert_eq!(options, ["--qos=two words", "--array=0-2", "--hold"]);
        assert_eq!(
            batches[0].apart("7"),
            [
                "update JobId=7_0 TimeLimit=11 ReqNodeList=n1",
                "update JobId=7_2 TimeLimit=11 ReqNodeList=n1",
                "update JobId=7_1 TimeLimit=11 ReqNodeList=n2"
            ]
        );
        let anywhere = |index: usize| Task { node: None, begin_s: [0, 60, 60][index], ..task(&script, index) };
        let free = Batch::of(&script, (0..3).map(anywhere).collect(), 3).remove(0);
        assert_eq!(
            free.apart("8"),
            ["update JobId=8_0 TimeLimit=11", "update JobId=8_[1-2] TimeLimit=11 StartTime=now+60seconds"]
        );
        assert_eq!(batches[1].job_id("8", &batches[1].tasks[1]), "8_1");
    }

    #[test]
    fn tasks_of_one_node_need_no_telling_and_one_alone_is_a_plain_job() {
        let script = script(4);
        let same = Batch::of(&script, vec![task(&script, 0), task(&script, 2)], 1000).remove(0);
        assert_eq!(same.options(), ["--qos=two words", "--array=0,2", "--nodelist=n1", "--time=11"]);
        let mut late = task(&script, 3);
        (late.begin_s, late.after) = (90, vec!["i0001".into(), "i0002".into()]);
        let alone = Batch::of(&script, vec![late], 1000).remove(0);
        assert_eq!(
            alone.options(),
            ["--qos=two words", "--nodelist=n2", "--time=11", "--begin=now+90seconds", "--hold"]
        );
        assert_eq!((alone.script_offset(), alone.job_id("9", &alone.tasks[0])), (3, "9".to_owned()));
        let job = |instance: &str| (instance == "i0001").then(|| "7_0".to_owned());
        assert!(alone.apart("9").is_empty());
        assert_eq!(alone.dependencies("9", job), ["update JobId=9 Dependency=afterany:7_0"]);
    }
}
