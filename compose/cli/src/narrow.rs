//! From two points of a trail to one instruction, by running again.
//!
//! Both runs are repeated up to a virtual time, and the one record there is compared; bisection ends at
//! the first time at which they differ. An instruction takes a nanosecond or more, so that is the end of
//! one instruction, or an event. Runs with input from outside cannot be repeated so.

use anyhow::{Context, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::trail::{names_of_difference, read, seconds};

/// A folder of this process's own that disappears with the value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Finds and prints the first difference between the virtual times of `window`.
pub(crate) fn narrow(window: (u64, u64), flags: [&[String]; 2]) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("atoll-diff-{}", std::process::id()));
    std::fs::create_dir(&folder).with_context(|| format!("cannot make '{}'", folder.display()))?;
    let folder = Folder(folder);
    let mut records = |at: u64| -> anyhow::Result<[Value; 2]> {
        eprintln!("atoll: running both up to {}", seconds(at));
        Ok([
            record(&folder.0, flags[0], at)?,
            record(&folder.0, flags[1], at)?,
        ])
    };
    let (at, [a, b]) = bisect(window, &mut records)?;
    println!(
        "first different at virtual time {}: {}",
        seconds(at),
        names_of_difference(&a, &b).join(", ")
    );
    println!("  first:  {a}\n  second: {b}");
    let before = records(at - 1)?;
    println!("  before: {}", before[0]);
    Ok(())
}

/// The least time in the window at which the records differ, and the records. They are equal at its
/// beginning and different at its end.
fn bisect(
    window: (u64, u64),
    records: &mut impl FnMut(u64) -> anyhow::Result<[Value; 2]>,
) -> anyhow::Result<(u64, [Value; 2])> {
    let (mut equal, mut different) = window;
    let mut found = records(different)?;
    if found[0] == found[1] {
        bail!(
            "run again, both are equal at {}: they had inputs that the flags do not name",
            seconds(different)
        );
    }
    while different - equal > 1 {
        let middle = equal + (different - equal) / 2;
        let pair = records(middle)?;
        if pair[0] == pair[1] {
            equal = middle;
        } else {
            different = middle;
            found = pair;
        }
    }
    Ok((different, found))
}

/// The record of a run at a virtual time.
fn record(folder: &Path, flags: &[String], at: u64) -> anyhow::Result<Value> {
    let trail = folder.join("trail");
    let output = Command::new(std::env::current_exe()?)
        .arg("run")
        .args(flags)
        .args(["--policy", "exact", "--hash-every", &format!("{at}ns")])
        .args(["--vtime-limit", &format!("{}ns", at + 1), "--trail"])
        .arg(&trail)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .context("cannot run again")?;
    let records = read(&trail).map(|trail| trail.records);
    let found = records.ok().and_then(|records| {
        records
            .into_iter()
            .find(|record| record.get("at").is_some())
    });
    found.with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("the run did not reach {}:\n{said}", seconds(at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bisection_ends_at_the_first_difference() {
        for first in 11..=100 {
            let mut tries = 0;
            let mut records = |at: u64| {
                tries += 1;
                Ok([
                    json!({ "at": at, "ram": 0 }),
                    json!({ "at": at, "ram": u8::from(at >= first) }),
                ])
            };
            let (at, [a, b]) = bisect((10, 100), &mut records).unwrap();
            assert_eq!(at, first);
            assert_eq!(names_of_difference(&a, &b), ["ram"]);
            assert!(tries <= 9);
        }
        let equal = bisect((10, 100), &mut |at| Ok([json!(at), json!(at)]));
        assert!(equal.is_err());
    }
}
