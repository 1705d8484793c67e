//! Who holds a lock on a file.
//!
//! `/proc/locks` shows a lock that belongs to an open file description (OFD) with the process id
//! -1, since any number of processes may share the description. `/proc/PID/fdinfo/FD` repeats the
//! lock for each descriptor that refers to it, so the processes that this one may look at are
//! searched there. This runs only after a refusal, and finds nobody where the holder belongs to
//! another user or lives in another container.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process that has the file open and locked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pid: u32,
    command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.command)
    }
}

/// The processes that hold a lock on `byte` of the file `(device, inode)`, except through the
/// descriptor `own` of this process.
pub(crate) fn holders(device: u64, inode: u64, byte: i64, own: i32) -> Vec<Holder> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|&pid| process_holds(pid, device, inode, byte, own))
        .map(|pid| Holder {
            pid,
            command: command_of(pid),
        })
        .collect()
}

fn process_holds(pid: u32, device: u64, inode: u64, byte: i64, own: i32) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let Ok(descriptors) = fs::read_dir(process.join("fdinfo")) else {
        return false;
    };
    descriptors.flatten().any(|entry| {
        let name = entry.file_name();
        let is_own = pid == std::process::id() && name.to_str() == Some(&own.to_string());
        let is_file = || {
            fs::metadata(process.join("fd").join(&name))
                .is_ok_and(|file| file.dev() == device && file.ino() == inode)
        };
        !is_own
            && fs::read_to_string(entry.path()).is_ok_and(|info| locks_byte(&info, byte))
            && is_file()
    })
}

/// Whether a descriptor's `fdinfo` text lists a lock that covers `byte`. The line is that of
/// `/proc/locks` (proc(5)): number, class, mode, access, pid, device and inode, first, last.
fn locks_byte(info: &str, byte: i64) -> bool {
    info.lines()
        .filter_map(|line| line.strip_prefix("lock:"))
        .any(|line| {
            let mut fields = line.split_whitespace().skip(6);
            let first = fields.next().and_then(|field| field.parse::<i64>().ok());
            let last = fields
                .next()
                .map(|field| field.parse::<i64>().unwrap_or(i64::MAX));
            matches!((first, last), (Some(first), Some(last)) if (first..=last).contains(&byte))
        })
}

fn command_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "?".into(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo_lock_lines_are_read() {
        let info = "pos:\t0\nflags:\t02100002\n\
                    lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:10010947 100 101\n\
                    lock:\t2: OFDLCK ADVISORY  READ -1 fe:00:10010947 203 EOF\n";
        for (byte, held) in [
            (99, false),
            (100, true),
            (101, true),
            (102, false),
            (203, true),
            (4000, true),
        ] {
            assert_eq!(locks_byte(info, byte), held, "byte {byte}");
        }
    }
}
