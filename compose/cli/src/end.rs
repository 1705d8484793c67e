//! How a run ended: the exit code, what the user is told, and the statistics file.

use atoll_abi::control::ExitReport;
use atoll_abi::exit::ExitReason;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// The exit of a command that cannot be done as it was asked.
pub(crate) fn bad_config() -> ExitCode {
    ExitCode::from(ExitReason::BadConfig.code())
}

/// A run that ended without the worker's report.
pub(crate) fn without_report(reason: ExitReason, detail: impl Into<String>) -> ExitReport {
    ExitReport {
        reason,
        detail: detail.into(),
        now: atoll_abi::VirtualTime::ZERO,
        instructions: 0,
        final_hash: [0; 32],
        stats: String::new(),
    }
}

/// The meaning of each exit code, one a line.
pub(crate) fn codes() -> String {
    let mut text = String::new();
    for (code, _, meaning) in ExitReason::TABLE {
        let _ = writeln!(text, "  {code:2}  {}", meaning.trim());
    }
    text
}

fn meaning(reason: ExitReason) -> &'static str {
    let row = ExitReason::TABLE
        .iter()
        .find(|(code, _, _)| *code == u64::from(reason.code()));
    row.map_or("", |(_, _, meaning)| meaning.trim())
}

/// What is printed at the end.
pub(crate) fn message(report: &ExitReport) -> String {
    let meaning = meaning(report.reason);
    let mut text = format!("atoll: {meaning}");
    let repeats = report
        .detail
        .eq_ignore_ascii_case(meaning.trim_end_matches('.'));
    if !report.detail.is_empty() && !repeats {
        let detail = report.detail.replace('\n', "\natoll: ");
        let _ = write!(text, "\natoll: {detail}");
    }
    text.push('\n');
    if has_state(report) {
        let (now, instructions) = (report.now, report.instructions);
        let _ = writeln!(
            text,
            "atoll: virtual time {now}, {instructions} instructions"
        );
        let _ = writeln!(text, "final hash {}", hex(&report.final_hash));
    }
    text
}

/// Whether a worker lived to say where it stood.
fn has_state(report: &ExitReport) -> bool {
    report.final_hash != [0; 32]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Writes the statistics: the worker's own, and how the run ended.
pub(crate) fn write_stats(path: &Path, report: &ExitReport, wall_ns: u64) -> std::io::Result<()> {
    let mut stats = match serde_json::from_str(&report.stats) {
        Ok(Value::Object(stats)) => stats,
        _ => serde_json::Map::new(),
    };
    let own = json!({
        "exit_reason": format!("{:?}", report.reason),
        "exit_code": report.reason.code(),
        "detail": report.detail,
        "instructions": report.instructions,
        "virtual_ns": report.now.ns(),
        "final_hash": hex(&report.final_hash),
        "command_wall_ns": wall_ns,
    });
    if let Value::Object(own) = own {
        for (key, value) in own {
            stats.entry(key).or_insert(value);
        }
    }
    let text = serde_json::to_string_pretty(&Value::Object(stats))?;
    std::fs::write(path, text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_stands_on_a_line_of_its_own() {
        let mut report = without_report(ExitReason::PowerOff, "");
        assert_eq!(
            message(&report),
            "atoll: The guest powered the machine off.\n"
        );
        report.final_hash[0] = 0xab;
        let text = message(&report);
        let hash = text
            .lines()
            .find_map(|line| line.strip_prefix("final hash "))
            .unwrap();
        assert!(hash.starts_with("ab00") && hash.len() == 64);
    }

    #[test]
    fn every_code_is_listed_once() {
        let codes = codes();
        assert_eq!(codes.lines().count(), ExitReason::ALL.len());
        assert!(codes.contains("  14  The broker died."));
    }
}
