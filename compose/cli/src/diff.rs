//! `atoll diff`: the first difference of two trails.
//!
//! A trail is JSON lines. The first names the inputs of the run; the others, in order of virtual
//! time, are points (`at`: hashes of registers, RAM and events) and outside inputs (`in`, `button`).

use anyhow::{Context, bail};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// Compares and prints.
pub(crate) fn diff(a: &Path, b: &Path) -> ExitCode {
    let trails = read(a).and_then(|a| Ok((a, read(b)?)));
    match trails {
        Err(error) => {
            eprintln!("atoll: {error:#}");
            ExitCode::from(2)
        }
        Ok((a, b)) => match compare(&a, &b) {
            None => {
                println!("the trails are equal: {} records", a.records.len());
                ExitCode::SUCCESS
            }
            Some(difference) => {
                print!("{difference}");
                ExitCode::from(1)
            }
        },
    }
}

#[derive(Debug)]
struct Trail {
    head: Value,
    records: Vec<Value>,
}

fn read(path: &Path) -> anyhow::Result<Trail> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read '{name}'"))?;
    parse(&text).with_context(|| format!("'{name}' is no trail"))
}

fn parse(text: &str) -> anyhow::Result<Trail> {
    let mut values = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("line {}", index + 1))?;
        values.push(value);
    }
    if values.is_empty() {
        bail!("it is empty");
    }
    let head = values.remove(0);
    match head.get("trail").and_then(Value::as_u64) {
        Some(1) => Ok(Trail {
            head,
            records: values,
        }),
        Some(version) => bail!("it has version {version}, and 1 is understood"),
        None => bail!("its first line is not the head of a trail"),
    }
}

/// What is first different, in words; nothing if the trails are equal.
fn compare(a: &Trail, b: &Trail) -> Option<String> {
    if a.head != b.head {
        let inputs = names_of_difference(&a.head, &b.head);
        return Some(format!(
            "the runs have different inputs: {}\n",
            inputs.join(", ")
        ));
    }
    let pairs = a.records.iter().zip(&b.records);
    let equal = pairs.take_while(|(a, b)| a == b).count();
    let (first, second) = (a.records.get(equal), b.records.get(equal));
    if first.is_none() && second.is_none() {
        return None;
    }
    let last_equal = a.records[..equal]
        .iter()
        .rev()
        .find_map(|record| time(record, "at"));
    let mut text = match last_equal {
        Some(at) => format!("equal up to virtual time {}\n", seconds(at)),
        None => "nothing is equal but the inputs of the runs\n".to_owned(),
    };
    match (first, second) {
        (Some(first), Some(second)) => describe(&mut text, first, second),
        (Some(rest), None) => drop(writeln!(
            text,
            "the second trail ends; the first goes on: {rest}"
        )),
        (None, Some(rest)) => drop(writeln!(
            text,
            "the first trail ends; the second goes on: {rest}"
        )),
        (None, None) => {}
    }
    if let Some(at) = first.or(second).and_then(|record| time(record, "at")) {
        let from = last_equal.unwrap_or(0);
        let finer = (at.saturating_sub(from) / 100).max(1_000);
        let _ = writeln!(
            text,
            "to come nearer, run both again with --vtime-limit {at}ns --hash-every {finer}ns"
        );
    }
    Some(text)
}

fn describe(text: &mut String, a: &Value, b: &Value) {
    match (time(a, "at"), time(b, "at")) {
        (Some(at), Some(other)) if at == other => {
            let what = names_of_difference(a, b).join(", ");
            let _ = writeln!(text, "different at virtual time {}: {what}", seconds(at));
        }
        _ => text.push_str("different records\n"),
    }
    let _ = writeln!(text, "  first:  {a}\n  second: {b}");
}

fn names_of_difference(a: &Value, b: &Value) -> Vec<String> {
    let empty = serde_json::Map::new();
    let (a, b) = (
        a.as_object().unwrap_or(&empty),
        b.as_object().unwrap_or(&empty),
    );
    let mut names: Vec<String> = a.keys().chain(b.keys()).cloned().collect();
    names.sort();
    names.dedup();
    names.retain(|name| a.get(name) != b.get(name));
    names
}

fn time(record: &Value, key: &str) -> Option<u64> {
    record.get(key).and_then(Value::as_u64)
}

fn seconds(ns: u64) -> String {
    atoll_abi::VirtualTime(ns).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "{\"trail\":1,\"machine\":\"m\",\"kernel\":\"k\",\"initrd\":\"\"}\n";

    fn trail(lines: &str) -> Trail {
        parse(&format!("{HEAD}{lines}")).unwrap()
    }

    #[test]
    fn differences() {
        let point =
            |at: u64, ram: &str| format!("{{\"at\":{at},\"ram\":\"{ram}\",\"events\":\"e\"}}\n");
        let equal = trail(&(point(1_000_000, "a") + &point(2_000_000, "b")));
        assert_eq!(
            compare(
                &equal,
                &trail(&(point(1_000_000, "a") + &point(2_000_000, "b")))
            ),
            None
        );
        let other = trail(&(point(1_000_000, "a") + &point(2_000_000, "c")));
        let text = compare(&equal, &other).unwrap();
        assert!(
            text.contains("equal up to virtual time 0.001000000s"),
            "{text}"
        );
        assert!(
            text.contains("different at virtual time 0.002000000s: ram"),
            "{text}"
        );
        let short = trail(&point(1_000_000, "a"));
        assert!(
            compare(&equal, &short)
                .unwrap()
                .contains("the second trail ends")
        );
        let typed = trail("{\"in\":5,\"place\":0,\"bytes\":\"61\"}\n");
        assert!(
            compare(&equal, &typed)
                .unwrap()
                .contains("different records")
        );
    }

    #[test]
    fn different_inputs_come_first() {
        let a = trail("");
        let b = parse("{\"trail\":1,\"machine\":\"n\",\"kernel\":\"k\",\"initrd\":\"\"}").unwrap();
        assert_eq!(
            compare(&a, &b).unwrap(),
            "the runs have different inputs: machine\n"
        );
    }

    #[test]
    fn what_is_no_trail() {
        for text in ["", "x", "{}", "{\"trail\":2}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
