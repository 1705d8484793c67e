//! How it runs: time, chance, engine and what is logged.

use super::{duration, word};
use crate::draft::Draft;
use crate::machine::{DebugItem, Engine, PolicyChoice, RtcBase, Seed};
use crate::options::Options;
use crate::problem::Origin;
use crate::units;

pub(super) fn hash_every(draft: &mut Draft, origin: &Origin, text: &str) {
    let every = duration(draft, origin, text);
    if every.is_some_and(|every| every.as_micros() == 0) {
        draft
            .problems
            .add(origin, "a hash at most every microsecond");
    }
    draft.hash_every = every.map(|every| (origin.clone(), every));
}

pub(super) fn icount(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    options.ignore(&["align"]);
    match options.take("shift", &mut draft.problems).as_deref() {
        Some("auto") => {
            let message = "shift=auto follows the host's speed, and then no two runs are equal; \
                           name a number";
            draft.problems.add(&origin, message);
        }
        Some(text) => match units::number(text) {
            Ok(shift) if shift <= 10 => draft.icount_shift = u8::try_from(shift).ok(),
            _ => draft
                .problems
                .add(&origin, format!("shift: \"{text}\" is not from 0 to 10")),
        },
        None => draft.problems.add(&origin, "shift=N is missing"),
    }
    if let Some(sleep) = options.take_bool("sleep", &mut draft.problems) {
        draft.icount_policy = Some(if sleep {
            PolicyChoice::Paced
        } else {
            PolicyChoice::Exact
        });
    }
    for key in ["rr", "rrfile", "rrsnapshot"] {
        options.refuse(
            key,
            "recording is Atoll's own: --trail",
            &mut draft.problems,
        );
    }
    options.finish(&mut draft.problems);
}

pub(super) fn rtc(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    options.take_word(
        "clock",
        &[("vm", ()), ("host", ()), ("rt", ())],
        &mut draft.problems,
    );
    options.take_word(
        "driftfix",
        &[("none", ()), ("slew", ())],
        &mut draft.problems,
    );
    match options.take("base", &mut draft.problems).as_deref() {
        None => {}
        Some("utc") => draft.rtc = Some(RtcBase::HostUtc),
        Some("localtime") => draft.rtc = Some(RtcBase::HostLocal),
        Some(text) => match units::date(text) {
            Some(seconds) => draft.rtc = Some(RtcBase::Epoch(seconds)),
            None => {
                let message = format!(
                    "base: \"{text}\" is neither utc, localtime, nor a date such as \
                     2026-01-01T12:00:00"
                );
                draft.problems.add(&origin, message);
            }
        },
    }
    options.finish(&mut draft.problems);
}

pub(super) fn seed(draft: &mut Draft, origin: &Origin, text: &str) {
    match (text, units::number(text)) {
        ("random", _) => draft.seed = Some(Seed::Random),
        (_, Ok(number)) => draft.seed = Some(Seed::Fixed(number)),
        (_, Err(message)) => draft.problems.add(origin, message),
    }
}

pub(super) fn policy(draft: &mut Draft, origin: &Origin, text: &str) {
    let words = [
        ("auto", PolicyChoice::Auto),
        ("exact", PolicyChoice::Exact),
        ("paced", PolicyChoice::Paced),
    ];
    draft.policy = word(draft, origin, text, &words);
}

pub(super) fn engine(draft: &mut Draft, origin: &Origin, text: &str) {
    let words = Engine::ALL.map(|engine| (engine.name(), engine));
    draft.engine = word(draft, origin, text, &words);
}

pub(super) fn debug(draft: &mut Draft, origin: &Origin, text: &str) {
    let words = DebugItem::ALL.map(|item| (item.name(), item));
    for item in text.split(',') {
        let item = word(draft, origin, item, &words);
        draft.debug.items.extend(item);
    }
}
