//! The script: expect a text on a serial port, then type one, inside the machine.
//!
//! What it types is a function of what the guest printed, at a virtual time after the matched byte, so a scripted login
//! is no outside input and a scripted run is a closed one.

use machine_spec::ScriptStep;
use std::collections::VecDeque;

/// What the script wants the board to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    pub port: u8,
    pub bytes: Vec<u8>,
}

/// The steps that are left, and the output that was not matched yet.
#[derive(Clone, Debug, Default)]
pub struct Script {
    steps: VecDeque<ScriptStep>,
    /// Output of each port since the last match, bounded by [`WINDOW`].
    seen: [Vec<u8>; 4],
    waiting: Option<Typed>,
}

/// Output older than this many bytes cannot be matched any more.
const WINDOW: usize = 64 << 10;

impl Script {
    pub fn new(steps: &[ScriptStep]) -> Script {
        Script {
            steps: steps.iter().cloned().collect(),
            ..Script::default()
        }
    }

    /// Starts the script: a first step that expects nothing is due at once. Gives the time of the next typing.
    pub fn start(&mut self, now_ns: u64) -> Option<u64> {
        self.advance(now_ns, 0)
    }

    /// The guest printed `bytes` on `port`. Gives the time at which [`Script::take`] is due, when a step matched.
    pub fn observe(&mut self, now_ns: u64, port: u8, bytes: &[u8]) -> Option<u64> {
        let step = self.steps.front()?;
        let seen = self.seen.get_mut(usize::from(port))?;
        seen.extend_from_slice(bytes);
        if seen.len() > 2 * WINDOW {
            seen.drain(..seen.len() - WINDOW);
        }
        if self.waiting.is_some() || step.port != port {
            return None;
        }
        // What came before was searched as it came; a match ends in the new bytes.
        let new = bytes.len() + step.expect.len();
        let from = seen.len().saturating_sub(new);
        self.advance(now_ns, from)
    }

    /// The text that the next step still waits for.
    pub fn unmet(&self) -> Option<&[u8]> {
        let step = self.steps.front().filter(|_| self.waiting.is_none())?;
        Some(&step.expect)
    }

    /// Takes the next step if its text is in the output from `from` on.
    fn advance(&mut self, now_ns: u64, from: usize) -> Option<u64> {
        let step = self.steps.front()?;
        let seen = self.seen.get_mut(usize::from(step.port))?;
        let end = if step.expect.is_empty() {
            0
        } else {
            from + find(&seen[from..], &step.expect)? + step.expect.len()
        };
        seen.drain(..end);
        let step = self.steps.pop_front()?;
        self.waiting = Some(Typed {
            port: step.port,
            bytes: step.send,
        });
        Some(now_ns + step.delay_ns)
    }

    /// The bytes now due, and the time of the next typing if the following step matches already.
    pub fn take(&mut self, now_ns: u64) -> (Option<Typed>, Option<u64>) {
        let typed = self.waiting.take();
        let next = self.advance(now_ns, 0);
        (typed, next)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(expect: &str, send: &str) -> ScriptStep {
        ScriptStep {
            port: 0,
            expect: expect.into(),
            send: send.into(),
            delay_ns: 5,
        }
    }

    #[test]
    fn a_text_split_over_writes_is_found() {
        let mut script = Script::new(&[step("login:", "root\n"), step("# ", "exit\n")]);
        assert_eq!(script.start(0), None);
        assert_eq!(script.observe(10, 0, b"debian lo"), None);
        assert_eq!(script.observe(20, 0, b"gin: # "), Some(25));
        let (typed, next) = script.take(25);
        assert_eq!(typed.unwrap().bytes, b"root\n");
        assert_eq!(
            next,
            Some(30),
            "what came after the match counts for the next step"
        );
        assert_eq!(script.take(30).0.unwrap().bytes, b"exit\n");
        assert_eq!(script.observe(40, 0, b"# "), None);
    }

    #[test]
    fn what_a_script_waits_for_is_known_until_it_comes() {
        let mut script = Script::new(&[step("ab", "x"), step("cd", "")]);
        assert_eq!(script.start(0), None);
        for byte in [b"-", b"a", b"a"] {
            assert_eq!(script.observe(1, 0, byte), None);
        }
        assert_eq!(script.unmet(), Some(&b"ab"[..]));
        assert_eq!(script.observe(2, 0, b"b"), Some(7));
        assert_eq!(script.take(7).1, None);
        assert_eq!(script.unmet(), Some(&b"cd"[..]));
        assert_eq!(script.observe(8, 0, b"cd"), Some(13));
        assert_eq!(script.take(13).1, None);
        assert_eq!(script.unmet(), None);
    }

    #[test]
    fn a_step_that_expects_nothing_types_at_once() {
        let mut script = Script::new(&[step("", "x")]);
        assert_eq!(script.start(100), Some(105));
    }
}
