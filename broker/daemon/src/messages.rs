//! What a message of a peer means, and whether its role may say it.

use atoll_abi::PeerId;
use atoll_abi::control::{Control, LogLevel, LogRecord, Role};
use broker_core::Event;

/// Longest line of a peer's log that is passed on.
const MOST_TEXT: usize = 4096;

/// A message, judged.
#[derive(Debug)]
pub(crate) enum Heard {
    Event(Event),
    Log(LogRecord),
    Trail(Vec<u8>),
    /// A piece of what `-d` asked for.
    Debug(String),
}

/// Judges a message of `peer`. `pid` is its process, `idle` says whether it has answered everything. The error is what it did wrong.
pub(crate) fn judge(
    peer: PeerId,
    role: Role,
    pid: u32,
    idle: bool,
    control: Control,
) -> Result<Heard, String> {
    Ok(Heard::Event(match (control, role) {
        (Control::Hello(hello), _) => Event::Hello { peer, hello, pid },
        (Control::Ready, _) => Event::Ready { peer },
        (Control::Heartbeat { progress }, _) => Event::Beat {
            peer,
            progress,
            idle,
        },
        (Control::Fault(fault), _) => Event::Fault { peer, fault },
        (Control::Log(record), Role::Worker) if record.level >= LogLevel::Debug => {
            return Ok(Heard::Debug(record.text));
        }
        (Control::Log(mut record), _) => {
            truncate(&mut record.text);
            return Ok(Heard::Log(record));
        }
        (Control::ExitReport(report), Role::Worker) => Event::Report(report),
        (Control::Trail(bytes), Role::Worker) => return Ok(Heard::Trail(bytes)),
        (Control::Console(request), Role::Char) => Event::Console { peer, request },
        (other, role) => return Err(format!("a {role:?} may not send {}", name(&other))),
    }))
}

fn truncate(text: &mut String) {
    if text.len() > MOST_TEXT {
        let end = (0..=MOST_TEXT)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        text.truncate(end);
    }
}

/// The message's name.
pub(crate) fn name(control: &Control) -> String {
    let debug = format!("{control:?}");
    debug
        .split([' ', '(', '{'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_bound_what_may_be_said() {
        let peer = PeerId::new(2, 0);
        let judged = |role, control| judge(peer, role, 1, true, control);
        assert!(judged(Role::Worker, Control::Trail(vec![1])).is_ok());
        assert!(
            judged(Role::Block, Control::Trail(vec![1])).is_err_and(|why| why.contains("Trail"))
        );
        assert!(judged(Role::Worker, Control::PowerButton).is_err());
        assert!(judged(Role::Char, Control::Ready).is_ok());
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut text = "é".repeat(MOST_TEXT);
        truncate(&mut text);
        assert_eq!(text.len(), MOST_TEXT);
        let mut text = format!("x{}", "é".repeat(MOST_TEXT));
        truncate(&mut text);
        assert_eq!(text.len(), MOST_TEXT - 1);
    }
}
