//! The machine file: TOML whose keys are the names of the flags.
//!
//! ```toml
//! name = "debian"
//! memory = "1G"
//! kernel = "vmlinuz"
//! initrd = "initrd.img"
//! append = "console=ttyS0 root=/dev/vda1"
//! serial = ["stdio", "file:com2.log"]
//!
//! [[drive]]
//! file = "debian.qcow2"
//! format = "qcow2"
//! backing = ["base.qcow2"]
//!
//! [rtc]
//! base = "2026-01-01"
//! ```
//!
//! A flag that takes `key=value` pairs is a table, or a list of tables if it may be repeated; its
//! comma syntax works as a string too. Relative paths begin at the folder of the file. The order
//! of serial ports and drives is the order of device places.

use crate::draft::Draft;
use crate::options::Options;
use crate::problem::Origin;
use crate::settings::{self, Kind, SETTINGS, Setting};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

impl Draft {
    /// Reads the text of a machine file; `path` is for messages and relative paths.
    pub fn read_file(&mut self, path: &Path, text: &str) {
        let reader = Reader {
            name: path.display().to_string(),
            text,
        };
        let before = self.base.clone();
        self.base = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let origin = reader.origin(error.span().unwrap_or(0..0));
            self.problems.add(&origin, error.message().trim_end());
        }
        // In the order of the file: a table is sorted by key, and places follow the file.
        let table = table.into_inner();
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            reader.entry(self, key.get_ref(), &reader.origin(key.span()), value);
        }
        self.base = before;
    }
}

struct Reader<'a> {
    name: String,
    text: &'a str,
}

impl Reader<'_> {
    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or("");
        Origin::File {
            name: self.name.clone(),
            line: before.matches('\n').count() + 1,
        }
    }

    fn entry(&self, draft: &mut Draft, key: &str, origin: &Origin, value: &Spanned<DeValue<'_>>) {
        let Some(setting) = settings::find(key).filter(|setting| setting.name.len() > 1) else {
            let known = SETTINGS.iter().map(|setting| setting.name);
            draft.problems.unknown(origin, "key", key, known);
            return;
        };
        self.value(draft, setting, origin, value);
    }

    fn value(
        &self,
        draft: &mut Draft,
        setting: &Setting,
        origin: &Origin,
        value: &Spanned<DeValue<'_>>,
    ) {
        match (value.get_ref(), setting.kind) {
            (DeValue::Array(members), _) => {
                for member in members.iter() {
                    self.value(draft, setting, &self.origin(member.span()), member);
                }
            }
            (DeValue::Table(table), Kind::Group(_, apply)) => {
                let mut options = Options::new(origin.clone());
                self.flatten(&mut options, "", table);
                apply(draft, options);
            }
            (DeValue::Table(_), _) => {
                draft
                    .problems
                    .add(origin, format!("{} is no table", setting.name));
            }
            (scalar, _) => draft.apply_text(setting, origin, &text_of(scalar)),
        }
    }

    /// A table as options; nested keys are joined by dots, lists repeat their key.
    fn flatten(&self, options: &mut Options, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            self.flatten_value(options, &name, &self.origin(key.span()), value);
        }
    }

    fn flatten_value(
        &self,
        options: &mut Options,
        name: &str,
        origin: &Origin,
        value: &Spanned<DeValue<'_>>,
    ) {
        match value.get_ref() {
            DeValue::Table(inner) => self.flatten(options, &format!("{name}."), inner),
            DeValue::Array(members) => {
                for member in members.iter() {
                    self.flatten_value(options, name, origin, member);
                }
            }
            scalar => options.push(name, Some(text_of(scalar)), origin.clone()),
        }
    }
}

/// A scalar as the command line would say it.
fn text_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.clone().into_owned(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(on) => if *on { "on" } else { "off" }.to_owned(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) | DeValue::Table(_) => String::new(),
    }
}
