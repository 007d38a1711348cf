//! The names of things: executions, layers, splits, attempts.
//!
//! Inside, layers are dense numbers; names are used only at the edges. Nothing here touches the world, but for the
//! clock that [`ExecutionId::now`] reads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One run of a flow. A UUIDv7 (RFC 9562), written as 32 hexadecimal digits, so that ids sort by the time of creation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutionId(Uuid);

impl ExecutionId {
    /// A new id, later than every id this process has made.
    #[must_use]
    pub fn now() -> ExecutionId {
        ExecutionId(Uuid::now_v7())
    }

    /// The time that is in the id itself: the first 48 bits, in milliseconds since 1970.
    #[must_use]
    pub fn created_ms(self) -> i64 {
        i64::from_str_radix(&self.to_string()[..12], 16).unwrap_or(0)
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no execution id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an execution id (32 hexadecimal digits)")]
pub struct InvalidExecutionId(String);

impl FromStr for ExecutionId {
    type Err = InvalidExecutionId;

    fn from_str(text: &str) -> Result<ExecutionId, InvalidExecutionId> {
        let simple = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match Uuid::try_parse(text) {
            Ok(uuid) if simple => Ok(ExecutionId(uuid)),
            _ => Err(InvalidExecutionId(text.to_owned())),
        }
    }
}

impl Serialize for ExecutionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.simple().encode_lower(&mut Uuid::encode_buffer()))
    }
}

impl<'de> Deserialize<'de> for ExecutionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ExecutionId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A layer's place in its flow, from 0, in the order of the flow file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LayerId(pub u32);

impl LayerId {
    /// The id as an index into a slice with one entry per layer.
    #[must_use]
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

/// One copy of a layer: a layer without `foreach` has one, with index 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Split {
    /// The layer it is a copy of.
    pub layer: LayerId,
    /// Which copy, from 0.
    pub index: u32,
}

/// One attempt of one split, in dense ids: the unit that the scheduler starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attempt {
    /// Whose attempt.
    pub split: Split,
    /// Which attempt, from 1. Counts every launch, also those that are not charged to the user's retries.
    pub number: u32,
}

/// The same, as an executor sees it. Every name an executor gives to a process, a container or a file is derived from
/// this value alone, so that whoever comes after a crash finds it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    /// The execution it belongs to.
    pub execution: ExecutionId,
    /// The layer's name.
    pub layer: std::sync::Arc<str>,
    /// The split's index, from 0.
    pub index: u32,
    /// The attempt, from 1.
    pub attempt: u32,
}

impl TaskId {
    /// `<Layer>.<index>.<attempt>`: unique within its execution. Layer names hold no dots.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}.{}", self.layer, self.index, self.attempt)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}.{}", self.execution, self.layer, self.index, self.attempt)
    }
}

/// An index with as many digits as the largest of so many splits has, so that names keep the order of numbers.
#[must_use]
pub fn number(index: u32, splits: u32) -> String {
    let width = splits.saturating_sub(1).max(1).ilog10() as usize + 1;
    format!("{index:0width$}")
}
