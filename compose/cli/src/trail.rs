//! A trail: what a run was at some virtual times, and where two trails first differ.
//!
//! It is JSON lines. The first names the inputs of the run; the others, in order of virtual time, are points (`at`: hashes of
//! registers, RAM and events) and outside inputs (`in`, `button`).

use anyhow::{Context, bail};
use atoll_abi::control::TRAIL_VERSION;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// The first difference, in words, and the virtual times that it lies between if both runs came so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) text: String,
    pub(crate) window: Option<(u64, u64)>,
}

#[derive(Debug)]
pub(crate) struct Trail {
    head: Value,
    pub(crate) records: Vec<Value>,
}

pub(crate) fn read(path: &Path) -> anyhow::Result<Trail> {
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
        Some(TRAIL_VERSION) => Ok(Trail {
            head,
            records: values,
        }),
        Some(version) => bail!("it has version {version}, and {TRAIL_VERSION} is understood"),
        None => bail!("its first line is not the head of a trail"),
    }
}

/// What is first different; nothing if the trails are equal.
pub(crate) fn compare(a: &Trail, b: &Trail) -> Option<Difference> {
    if a.head != b.head {
        let inputs = names_of_difference(&a.head, &b.head);
        let text = format!("the runs have different inputs: {}\n", inputs.join(", "));
        return Some(Difference { text, window: None });
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
    let at = |record: Option<&Value>| record.and_then(|record| time(record, "at"));
    let window = match (at(first), at(second)) {
        (Some(first), Some(second)) => Some((last_equal.unwrap_or(0), first.max(second))),
        _ => None,
    };
    if window.is_some() {
        text.push_str(
            "(with the flags of both runs after --, the instruction is found by running again)\n",
        );
    }
    Some(Difference { text, window })
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

pub(crate) fn names_of_difference(a: &Value, b: &Value) -> Vec<String> {
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

pub(crate) fn seconds(ns: u64) -> String {
    atoll_abi::VirtualTime(ns).to_string()
}

/// Arbitrary bytes as two trails, between which there is a NUL: the body of a fuzz target and of a test. Nothing panics, and they differ
/// unless they are equal.
#[cfg(any(test, fuzzing))]
pub(crate) fn hostile(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (a, b) = text.split_once('\0').unwrap_or((&text, &text));
    if let (Ok(a), Ok(b)) = (parse(a), parse(b)) {
        let equal = a.head == b.head && a.records == b.records;
        assert_eq!(compare(&a, &b).is_none(), equal);
        assert_eq!(compare(&a, &a), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(machine: &str) -> String {
        format!(
            "{{\"trail\":{TRAIL_VERSION},\"machine\":\"{machine}\",\"kernel\":\"k\",\"initrd\":\"\"}}\n"
        )
    }

    fn trail(lines: &str) -> Trail {
        parse(&(head("m") + lines)).unwrap()
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
        let Difference { text, window } = compare(&equal, &other).unwrap();
        assert_eq!(window, Some((1_000_000, 2_000_000)));
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
                .text
                .contains("the second trail ends")
        );
        let typed = trail("{\"in\":5,\"place\":0,\"bytes\":\"61\"}\n");
        assert!(
            compare(&equal, &typed)
                .unwrap()
                .text
                .contains("different records")
        );
    }

    #[test]
    fn different_inputs_come_first() {
        let a = trail("");
        let b = parse(&head("n")).unwrap();
        assert_eq!(
            compare(&a, &b).unwrap().text,
            "the runs have different inputs: machine\n"
        );
    }

    #[test]
    fn what_is_no_trail() {
        for text in ["", "x", "{}", "{\"trail\":1}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
    #[test]
    fn damage_is_survived() {
        let line = r#"{"at":5,"ram":"a","events":"e"}"#;
        let sound = format!("{0}{line}\n\0{0}{line}\n", head("m")).into_bytes();
        for at in 0..sound.len() {
            hostile(&sound[..at]);
            for byte in *b"\0\n\"{}[9-e\xff" {
                let mut damaged = sound.clone();
                damaged[at] = byte;
                hostile(&damaged);
            }
        }
    }
}
