//! `--script FILE`: expect a text, then send a text, inside the machine.
//!
//! ```text
//! # log in, then switch off
//! expect "login: "
//! send   "root\n"
//! expect "# "
//! wait   10ms
//! send   "poweroff -f\n"
//! ```
//!
//! `expect` waits until the serial port has put out the text since the step before; `send` types.
//! `wait` sets the virtual time between the matched byte and what is sent next (1 ms if not
//! said), and `port N` chooses the serial port for the lines that follow (0 is COM1). Texts are
//! quoted and know `\n \r \t \e \0 \\ \" \xHH`. The script is part of the machine, not an outside
//! input: the bytes arrive at virtual times, so a scripted run has the same hash every time.

use crate::problem::{Origin, Problems};
use crate::units;
use crate::worker::ScriptStep;

const DEFAULT_DELAY_NS: u64 = 1_000_000;

/// The steps of a script file; `name` is for messages.
pub fn parse_script(name: &str, text: &str) -> Result<Vec<ScriptStep>, Problems> {
    let mut problems = Problems::default();
    let mut steps = Vec::new();
    let mut port = 0;
    let mut pending: Option<Vec<u8>> = None;
    let mut delay_ns = DEFAULT_DELAY_NS;
    for (index, line) in text.lines().enumerate() {
        let origin = Origin::File {
            name: name.to_owned(),
            line: index + 1,
        };
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "" => {}
            comment if comment.starts_with('#') => {}
            "expect" => match quoted(rest) {
                Ok(_) if pending.is_some() => {
                    problems.add(
                        &origin,
                        "an expect follows an expect; send something between",
                    );
                }
                Ok(bytes) if bytes.is_empty() => problems.add(&origin, "expects nothing"),
                Ok(bytes) => pending = Some(bytes),
                Err(message) => problems.add(&origin, message),
            },
            "send" => match quoted(rest) {
                Ok(send) => {
                    let expect = pending.take().unwrap_or_default();
                    steps.push(ScriptStep {
                        port,
                        expect,
                        send,
                        delay_ns,
                    });
                    delay_ns = DEFAULT_DELAY_NS;
                }
                Err(message) => problems.add(&origin, message),
            },
            "wait" => match units::duration(rest) {
                Ok(delay) => delay_ns = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX),
                Err(message) => problems.add(&origin, message),
            },
            "port" => match rest.parse::<u8>() {
                Ok(number) if number < 4 => port = number,
                _ => problems.add(&origin, format!("\"{rest}\" is not a port from 0 to 3")),
            },
            other => {
                problems.unknown(&origin, "word", other, ["expect", "send", "wait", "port"]);
            }
        }
    }
    // A last expect with nothing to send still says where the script has come to its end.
    if let Some(expect) = pending {
        steps.push(ScriptStep {
            port,
            expect,
            send: Vec::new(),
            delay_ns,
        });
    }
    if problems.is_empty() {
        Ok(steps)
    } else {
        Err(problems)
    }
}

/// The bytes of a quoted text.
fn quoted(text: &str) -> Result<Vec<u8>, String> {
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .ok_or_else(|| format!("a text in double quotes is expected, not {text}"))?;
    let mut bytes = Vec::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        if letter == '"' {
            return Err("a quote within a text is written \\\"".to_owned());
        }
        if letter != '\\' {
            bytes.extend(letter.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        bytes.push(match letters.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('e') => 0x1b,
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('"') => b'"',
            Some('x') => {
                let digits: String = letters.by_ref().take(2).collect();
                let parsed = u8::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.len() == 2);
                parsed.ok_or_else(|| format!("\\x{digits} is not a byte in hexadecimal"))?
            }
            Some(other) => return Err(format!("unknown escape \\{other}")),
            None => return Err("the text ends in a backslash".to_owned()),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps() {
        let text = "# a comment\nexpect \"login: \"\nsend \"root\\n\"\n\nport 1\nexpect \"\\x41\\e\"\n\
                    wait 10ms\nsend \"\\\"x\\\\\"\nexpect \"end\"\n";
        let step = |port, expect: &[u8], send: &[u8], delay_ns| ScriptStep {
            port,
            expect: expect.to_vec(),
            send: send.to_vec(),
            delay_ns,
        };
        let expected = vec![
            step(0, b"login: ", b"root\n", DEFAULT_DELAY_NS),
            step(1, b"A\x1b", b"\"x\\", 10_000_000),
            step(1, b"end", b"", DEFAULT_DELAY_NS),
        ];
        assert_eq!(parse_script("s", text), Ok(expected));
    }

    #[test]
    fn every_mistake_is_reported() {
        let text = "exspect \"a\"\nsend a\nsend \"\\q\"\nwait soon\nport 9\nexpect \"\"\nexpect \"a\"\nexpect \"b\"";
        let problems = parse_script("s", text).unwrap_err();
        let expected = "s:1: unknown word \"exspect\"; did you mean \"expect\"?\n\
            s:2: a text in double quotes is expected, not a\n\
            s:3: unknown escape \\q\n\
            s:4: \"soon\" is not a duration such as 30s or 500ms\n\
            s:5: \"9\" is not a port from 0 to 3\n\
            s:6: expects nothing\n\
            s:8: an expect follows an expect; send something between";
        assert_eq!(problems.to_string(), expected);
    }
}
