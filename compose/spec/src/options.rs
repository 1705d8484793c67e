//! A group of options such as `file=disk.qcow2,format=qcow2,readonly`, from whichever spelling.
//!
//! QEMU's comma syntax, a TOML table and a JSON object all become the same list of keys and texts.
//! A parser takes the keys that it knows; [`Options::finish`] reports what is left, and offers the
//! nearest of the keys that were asked for.

use crate::problem::{Origin, Problems};
use crate::units;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) origin: Origin,
    items: Vec<Item>,
    asked: Vec<&'static str>,
}

#[derive(Clone, Debug)]
struct Item {
    key: String,
    /// Absent where only a key was written: QEMU's short form of `key=on`, and `nokey` of `key=off`.
    value: Option<String>,
    origin: Origin,
}

impl Options {
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            origin,
            items: Vec::new(),
            asked: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, key: impl Into<String>, value: Option<String>, origin: Origin) {
        self.items.push(Item {
            key: key.into(),
            value,
            origin,
        });
    }

    /// QEMU's syntax. A comma within a value is written twice. A first item without `=` is the
    /// value of `implied`.
    pub(crate) fn from_commas(text: &str, implied: Option<&str>, origin: &Origin) -> Self {
        let mut options = Self::new(origin.clone());
        for (index, item) in split_commas(text).into_iter().enumerate() {
            match (item.split_once('='), implied) {
                (Some((key, value)), _) => {
                    options.push(key, Some(value.to_owned()), origin.clone());
                }
                (None, Some(implied)) if index == 0 => {
                    options.push(implied, Some(item), origin.clone());
                }
                (None, _) if item.is_empty() => {}
                (None, _) => options.push(item, None, origin.clone()),
            }
        }
        options
    }

    /// A JSON object, as `-blockdev` and `-device` take it; nested keys are joined by dots.
    pub(crate) fn from_json(text: &str, origin: &Origin) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        let mut options = Self::new(origin.clone());
        flatten_json(&mut options, "", &value, origin)?;
        Ok(options)
    }

    /// The text of a key; the last one wins where it is repeated.
    pub(crate) fn take(&mut self, key: &'static str, problems: &mut Problems) -> Option<String> {
        self.take_all(key, problems).pop()
    }

    /// All texts of a key that may be repeated.
    pub(crate) fn take_all(&mut self, key: &'static str, problems: &mut Problems) -> Vec<String> {
        self.asked.push(key);
        let mut texts = Vec::new();
        self.items.retain(|item| {
            if item.key != key {
                return true;
            }
            match &item.value {
                Some(value) => texts.push(value.clone()),
                None => problems.add(&item.origin, format!("{key} needs a value: {key}=...")),
            }
            false
        });
        texts
    }

    /// A switch: `key=on`, `key=off`, `key` or `nokey`.
    pub(crate) fn take_bool(&mut self, key: &'static str, problems: &mut Problems) -> Option<bool> {
        self.asked.push(key);
        let mut result = None;
        self.items.retain(|item| {
            let negated = item.value.is_none() && item.key.strip_prefix("no") == Some(key);
            if item.key != key && !negated {
                return true;
            }
            match item.value.as_deref().map(units::boolean) {
                None => result = Some(!negated),
                Some(Ok(on)) => result = Some(on),
                Some(Err(message)) => problems.add(&item.origin, format!("{key}: {message}")),
            }
            false
        });
        result
    }

    /// A word out of a list.
    pub(crate) fn take_word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        problems: &mut Problems,
    ) -> Option<T> {
        let text = self.take(key, problems)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            problems.unknown(
                &self.origin,
                key,
                &text,
                words.iter().map(|(word, _)| *word),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// Takes keys that mean nothing here and do no harm.
    pub(crate) fn ignore(&mut self, keys: &[&'static str]) {
        self.items.retain(|item| !keys.contains(&item.key.as_str()));
    }

    /// Refuses a key with the reason why it cannot be had.
    pub(crate) fn refuse(&mut self, key: &'static str, reason: &str, problems: &mut Problems) {
        self.items.retain(|item| {
            if item.key == key {
                problems.add(&item.origin, format!("{key}: {reason}"));
            }
            item.key != key
        });
    }

    /// Whether a key that begins so is there.
    pub(crate) fn has_prefix(&self, prefix: &str) -> bool {
        self.items.iter().any(|item| item.key.starts_with(prefix))
    }

    /// Takes everything below `prefix` as a group of its own, without the prefix.
    pub(crate) fn take_prefix(&mut self, prefix: &str) -> Self {
        let mut inner = Self::new(self.origin.clone());
        self.items
            .retain(|item| match item.key.strip_prefix(prefix) {
                Some(rest) => {
                    inner.push(rest, item.value.clone(), item.origin.clone());
                    false
                }
                None => true,
            });
        inner
    }

    /// The first key that stands without a value, with its text: `-chardev`'s and `-cpu`'s lists.
    pub(crate) fn drain(&mut self) -> Vec<(String, Option<String>)> {
        self.items
            .drain(..)
            .map(|item| (item.key, item.value))
            .collect()
    }

    /// Reports every key that nobody took.
    pub(crate) fn finish(self, problems: &mut Problems) {
        for item in &self.items {
            problems.unknown(
                &item.origin,
                "option",
                &item.key,
                self.asked.iter().copied(),
            );
        }
    }
}

/// Splits at single commas; `,,` stands for one comma.
pub(crate) fn split_commas(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let last = parts.last_mut().expect("there is always a last part");
        match letter {
            ',' if letters.peek() == Some(&',') => {
                letters.next();
                last.push(',');
            }
            ',' => parts.push(String::new()),
            other => last.push(other),
        }
    }
    parts
}

fn flatten_json(
    options: &mut Options,
    key: &str,
    value: &serde_json::Value,
    origin: &Origin,
) -> Result<(), String> {
    use serde_json::Value;
    let text = match value {
        Value::Object(members) => {
            for (name, member) in members {
                let inner = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                flatten_json(options, &inner, member, origin)?;
            }
            return Ok(());
        }
        _ if key.is_empty() => return Err("a JSON object is expected".to_owned()),
        Value::Array(members) => {
            for member in members {
                flatten_json(options, key, member, origin)?;
            }
            return Ok(());
        }
        Value::Null => "null".to_owned(),
        Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
    };
    options.push(key, Some(text), origin.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        Options::from_commas(text, Some("first"), &Origin::Whole)
    }

    #[test]
    fn commas_and_values() {
        let cases: [(&str, &[&str]); 5] = [
            ("a,b", &["a", "b"]),
            ("a,,b", &["a,b"]),
            ("a,,,b", &["a,", "b"]),
            ("", &[""]),
            ("a,", &["a", ""]),
        ];
        for (text, parts) in cases {
            assert_eq!(split_commas(text), parts, "{text}");
        }
        let mut problems = Problems::default();
        let mut given = options("x,key=a=b,key=c,on1,nowait");
        assert_eq!(given.take("first", &mut problems).as_deref(), Some("x"));
        assert_eq!(given.take("key", &mut problems).as_deref(), Some("c"));
        assert_eq!(given.take_bool("on1", &mut problems), Some(true));
        assert_eq!(given.take_bool("wait", &mut problems), Some(false));
        given.finish(&mut problems);
        assert!(problems.is_empty(), "{problems}");
    }

    #[test]
    fn leftovers_are_reported_with_the_nearest_key() {
        let mut problems = Problems::default();
        let mut given = options("x,fromat=raw");
        given.take("first", &mut problems);
        given.take("format", &mut problems);
        given.finish(&mut problems);
        assert_eq!(
            problems.to_string(),
            "unknown option \"fromat\"; did you mean \"format\"?"
        );
    }

    #[test]
    fn json_is_flattened() {
        let text = r#"{"driver":"qcow2","file":{"driver":"file","filename":"x"},"read-only":true}"#;
        let mut problems = Problems::default();
        let mut given = Options::from_json(text, &Origin::Whole).unwrap();
        assert_eq!(
            given.take("file.filename", &mut problems).as_deref(),
            Some("x")
        );
        assert_eq!(given.take_bool("read-only", &mut problems), Some(true));
        assert!(Options::from_json("[1]", &Origin::Whole).is_err());
        assert!(Options::from_json("{", &Origin::Whole).is_err());
    }
}
