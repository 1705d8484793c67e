//! A model's saved state: a kind, a version and bytes.
//!
//! The bytes are the `postcard` form of the model's own state struct. A version is raised whenever that struct changes, and
//! a model loads only the versions that it names, so a state is understood or refused, never guessed.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    pub kind: String,
    pub version: u16,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error("a section of kind {found:?} where {expected:?} belongs")]
    Kind { expected: String, found: String },
    #[error("version {found} of {kind}; this model reads version {expected}")]
    Version {
        kind: String,
        expected: u16,
        found: u16,
    },
    #[error("the state of {kind} is malformed: {why}")]
    Malformed { kind: String, why: String },
}

impl Section {
    /// The section that holds `state`.
    pub fn of<T: Serialize>(kind: &str, version: u16, state: &T) -> Section {
        let bytes =
            postcard::to_stdvec(state).expect("a state struct has only lengths that are known");
        Section {
            kind: kind.to_owned(),
            version,
            bytes,
        }
    }

    /// The state in this section, if it is of `kind` and `version` and whole.
    pub fn state<T: DeserializeOwned>(&self, kind: &str, version: u16) -> Result<T, LoadError> {
        if self.kind != kind {
            return Err(LoadError::Kind {
                expected: kind.to_owned(),
                found: self.kind.clone(),
            });
        }
        if self.version != version {
            return Err(LoadError::Version {
                kind: kind.to_owned(),
                expected: version,
                found: self.version,
            });
        }
        match postcard::take_from_bytes(&self.bytes) {
            Ok((state, [])) => Ok(state),
            Ok((_, rest)) => Err(self.malformed(format!("{} bytes too many", rest.len()))),
            Err(error) => Err(self.malformed(error.to_string())),
        }
    }

    /// The error of a model that finds a value in its state that it never saves.
    pub fn malformed(&self, why: impl Into<String>) -> LoadError {
        LoadError::Malformed {
            kind: self.kind.clone(),
            why: why.into(),
        }
    }
}
