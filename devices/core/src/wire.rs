//! Calls and effects as payloads of a register link: what a process seat sends and gets.
//!
//! The form is `postcard`'s. What arrives comes from a peer: it is copied out by the link, decoded here into owned or borrowed
//! values, and checked, so that a model behind a link is never handed what a bus could not have given it.

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::effect::{Effect, Effects};
use crate::model::{Input, Reply};

/// A call of a model, as it crosses a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call<'a> {
    Access(Access),
    Timer(u16),
    Complete(u64, #[serde(borrow)] Reply<'a>),
    #[serde(borrow)]
    Input(Input<'a>),
    Reset,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    #[error("a malformed message: {0}")]
    Malformed(String),
    #[error("an access that no bus makes: {0:?}")]
    IllegalAccess(Access),
    #[error("more than {0} effects in one answer")]
    TooManyEffects(usize),
}

/// One call has at most this many effects: the longest, a queue of 1024 descriptors all completed at once, has fewer.
pub const MAX_EFFECTS: usize = 65_536;

/// Appends a call at its virtual time.
pub fn encode_call(now_ns: u64, call: &Call<'_>, out: &mut Vec<u8>) {
    append(&(now_ns, call), out);
}

pub fn decode_call(bytes: &[u8]) -> Result<(u64, Call<'_>), WireError> {
    let (now_ns, call) = whole(bytes)?;
    if let Call::Access(access) = call
        && !access.is_legal()
    {
        return Err(WireError::IllegalAccess(access));
    }
    Ok((now_ns, call))
}

/// Appends the answer to a call: its result and its effects, in order.
pub fn encode_answer(result: u64, effects: &Effects, out: &mut Vec<u8>) {
    append(&(result, effects.len()), out);
    for effect in effects.iter() {
        append(&effect, out);
    }
}

/// Reads an answer; the effects are added to `effects`.
pub fn decode_answer(bytes: &[u8], effects: &mut Effects) -> Result<u64, WireError> {
    let ((result, count), mut rest) =
        postcard::take_from_bytes::<(u64, usize)>(bytes).map_err(malformed)?;
    if count > MAX_EFFECTS {
        return Err(WireError::TooManyEffects(MAX_EFFECTS));
    }
    for _ in 0..count {
        let (effect, left) = postcard::take_from_bytes::<Effect<&[u8]>>(rest).map_err(malformed)?;
        effects.push(effect);
        rest = left;
    }
    if rest.is_empty() {
        Ok(result)
    } else {
        Err(WireError::Malformed(format!(
            "{} bytes too many",
            rest.len()
        )))
    }
}

fn append<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let buffer = std::mem::take(out);
    *out = postcard::to_extend(value, buffer).expect("all lengths are known");
}

fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes).map_err(malformed)? {
        (value, []) => Ok(value),
        (_, rest) => Err(WireError::Malformed(format!(
            "{} bytes too many",
            rest.len()
        ))),
    }
}

fn malformed(error: postcard::Error) -> WireError {
    WireError::Malformed(error.to_string())
}
