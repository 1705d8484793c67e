//! The process list, as `/proc` shows it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A process by its number and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub name: String,
}

impl Process {
    /// Kills it so that it cannot notice.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends it a signal; it must be there.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid).expect("a process has a positive number");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal {self:?}: {error}"));
    }

    /// Whether it runs, or waits for its parent to look at how it ended.
    pub fn exists(&self) -> bool {
        stat(self.pid).is_some_and(|(name, _)| name == self.name)
    }
}

/// All processes that come from `root`, without itself.
pub fn descendants(root: i32) -> Vec<Process> {
    let mut rows = Vec::new();
    for entry in fs::read_dir("/proc").expect("there is a /proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        if let Some((name, parent)) = stat(pid) {
            rows.push((Process { pid, name }, parent));
        }
    }
    let mut found: Vec<Process> = Vec::new();
    loop {
        let ours = |pid: i32| pid == root || found.iter().any(|process| process.pid == pid);
        let more: Vec<Process> = rows
            .iter()
            .filter(|(process, parent)| ours(*parent) && !ours(process.pid))
            .map(|(process, _)| process.clone())
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// What the open descriptors of a process lead to, by number.
pub fn open_files(pid: i32) -> BTreeMap<u32, PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process is there and ours")
        .flatten();
    entries
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                fs::read_link(entry.path()).ok()?,
            ))
        })
        .collect()
}

/// What a process and all that come from it have used of the CPU so far.
pub(crate) fn cpu_time(root: i32) -> Duration {
    let family = descendants(root).into_iter().map(|process| process.pid);
    let ticks = |pid| fields(pid).map_or(0, |fields| fields.ticks);
    // USER_HZ, which is 100 on every Linux that runs on x86.
    Duration::from_millis(10 * family.chain([root]).map(ticks).sum::<u64>())
}

/// The name and the parent of a process.
fn stat(pid: i32) -> Option<(String, i32)> {
    fields(pid).map(|fields| (fields.name, fields.parent))
}

/// Of a process (proc(5), /proc/pid/stat).
struct Fields {
    name: String,
    parent: i32,
    /// User and system time.
    ticks: u64,
}

fn fields(pid: i32) -> Option<Fields> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself hold some.
    let (head, tail) = text.rsplit_once(')')?;
    let mut words = tail.split_whitespace().skip(1);
    Some(Fields {
        name: head.split_once('(')?.1.to_owned(),
        parent: words.next()?.parse().ok()?,
        ticks: words
            .skip(9)
            .take(2)
            .filter_map(|word| word.parse::<u64>().ok())
            .sum(),
    })
}
