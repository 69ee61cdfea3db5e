//! `submit.sh`: hands the scripts to Slurm in order of start, with what an `#SBATCH` line cannot say: when to begin,
//! which jobs to wait for, and values that need quoting.

use std::fmt::Write;

use super::Job;
use super::quote::{plain, word};
use super::script::directives;

const HEAD: &str = r#"#!/bin/bash
# Submits every instance of this plan; the plan's second 0 is now. What was submitted is noted in submitted.csv.
# usage: slurm/submit.sh [--test-only]     --test-only asks Slurm whether each job could ever run, and submits nothing
# Quoted names are data: nothing in them shall expand.
# shellcheck disable=SC2016,SC1112
set -euo pipefail

die() { printf 'submit.sh: %s\n' "$1" >&2; exit "$2"; }

JOULEPLAN_DIR="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
export JOULEPLAN_DIR
cd -- "$JOULEPLAN_DIR"
[ -e plan.json ] || die "$JOULEPLAN_DIR is no plan directory: it has no plan.json" 66
command -v sbatch >/dev/null || die 'sbatch is not here: run this on a login node of the cluster' 69

test_only=
case "${1:-}" in
  '') [ ! -e submitted.csv ] || die 'this plan has been submitted: see submitted.csv; remove that file to submit it again' 73
      [ -w . ] || die "$JOULEPLAN_DIR cannot be written to, and jobs write their answers there" 73 ;;
  --test-only) test_only=1 ;;
  *) die 'usage: slurm/submit.sh [--test-only]' 2 ;;
esac

declare -A slurm_job=()
submitted=()

# Whatever ends this script early: what is with Slurm by then, and how to take it back.
report() {
  local status=$?
  if [ "$status" -ne 0 ] && [ "${#submitted[@]}" -gt 0 ]; then
    printf 'submit.sh: submitted before that, see submitted.csv: %s. To cancel: scancel %s\n' \
      "${submitted[*]}" "${submitted[*]}" >&2
    printf 'submit.sh: to submit the plan again, cancel and remove %s/submitted.csv\n' "$JOULEPLAN_DIR" >&2
  fi
}
trap report EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# submit INSTANCE BEGIN_S PREDECESSORS [OPTION..]: BEGIN_S counts from the start of this script; the job waits until its
# predecessors, which hold its devices, have ended in whatever way.
submit() {
  local instance=$1 begin=$2 predecessors=$3 after='' predecessor id
  shift 3
  local options=(--export=ALL "--chdir=$JOULEPLAN_DIR" "$@")
  if [ -n "$test_only" ]; then
    sbatch --test-only "${options[@]}" "slurm/$instance.sbatch"
    return
  fi
  if [ "$begin" -gt "$SECONDS" ]; then
    options+=("--begin=now+$((begin - SECONDS))seconds")
  fi
  for predecessor in $predecessors; do
    after+=":${slurm_job[$predecessor]}"
  done
  if [ -n "$after" ]; then
    options+=("--dependency=afterany$after" --kill-on-invalid-dep=yes)
  fi
  if ! id="$(sbatch --parsable "${options[@]}" "slurm/$instance.sbatch")"; then
    [ "${#submitted[@]}" -gt 0 ] || die "Slurm refused $instance, the first job; nothing was submitted" 69
    die "Slurm refused $instance" 69
  fi
  id=${id%%;*}
  slurm_job[$instance]=$id
  submitted+=("$id")
  # Made by the first job that Slurm takes: a refused plan is as if never submitted.
  [ -e submitted.csv ] || echo 'instance,slurm_job' > submitted.csv
  printf '%s,%s\n' "$instance" "$id" >> submitted.csv
}

"#;

/// The text of submit.sh.
///
/// # Errors
/// The instance and what of it cannot be said to Slurm.
pub fn script(jobs: &[Job<'_>]) -> Result<String, (String, String)> {
    let mut text = HEAD.to_owned();
    for job in jobs {
        let begin = job.begin.0.max(0.0).floor();
        let _ = write!(text, "submit {} {begin} {}", job.id, word_of_ids(&job.after));
        for (option, value) in directives(job).map_err(|what| (job.id.clone(), what))? {
            if !plain(&value) {
                let quoted = word(&format!("--{option}={value}")).map_err(|what| (job.id.clone(), what))?;
                let _ = write!(text, " {quoted}");
            }
        }
        text.push('\n');
    }
    Ok(text)
}

fn word_of_ids(ids: &[String]) -> String {
    format!("'{}'", ids.join(" "))
}
