//! The tables beside the log: what they say once an event has happened, and a state has changed.
//!
//! All of it happens within the transaction that appends the events.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};

use super::RunStore;
use crate::datastore::{Artifact, Content};
use crate::event::{Event, Record};
use crate::id::{LayerId, Split};
use crate::scheduler::State;
use crate::store::creation;
use crate::store::row::{self, Count};
use crate::store::{Change, Creation};

/// A row of `splits`, less its key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    state: State,
    attempt: u32,
    outputs: Option<u32>,
    launched_ms: Option<i64>,
    ended_ms: Option<i64>,
    exited: Option<u64>,
    rejected: Option<u64>,
    /// Whether the current append is about it.
    touched: bool,
}

impl Line {
    /// Of a split of which nothing is stored.
    const NEW: Line = Line {
        state: State::Running,
        attempt: 0,
        outputs: None,
        launched_ms: None,
        ended_ms: None,
        exited: None,
        rejected: None,
        touched: false,
    };
}

/// The layers that were cancelled before they were opened, though both is told together. One that is opened becomes ready, if
/// it has a split at all.
pub(super) fn given_up(records: &[Record], changes: &[Change]) -> HashSet<LayerId> {
    let mut given_up = HashSet::new();
    if records.iter().any(|record| matches!(record.event, Event::LayerOpened { .. })) {
        let mut ready = HashSet::new();
        for Change { split, state } in changes.iter().filter(|change| change.split.index == 0) {
            match state {
                State::Ready => drop(ready.insert(split.layer)),
                State::Cancelled if !ready.contains(&split.layer) => drop(given_up.insert(split.layer)),
                _ => {}
            }
        }
    }
    given_up
}

impl RunStore {
    /// What an event says of its split's row, whatever state follows from it.
    pub(super) fn project(&mut self, record: &Record, given_up: &HashSet<LayerId>) -> rusqlite::Result<()> {
        match &record.event {
            Event::AttemptLaunched { attempt, outputs, .. } => {
                // All of the row is about its last attempt, so what it was need not be read.
                let launched_ms = Some(record.at_ms);
                let line = Line { attempt: attempt.number, outputs: Some(*outputs), launched_ms, ..Line::NEW };
                let touched = self.lines.get(&attempt.split).is_some_and(|line| line.touched);
                self.lines.insert(attempt.split, Line { touched, ..line });
                self.line(attempt.split)?;
            }
            Event::AttemptExited { attempt, .. } => {
                let line = self.line(attempt.split)?;
                line.attempt = attempt.number;
                line.exited = Some(record.seq);
                line.ended_ms = Some(record.at_ms);
            }
            Event::AttemptRejected { attempt, .. } => {
                let line = self.line(attempt.split)?;
                line.attempt = attempt.number;
                line.rejected = Some(record.seq);
            }
            Event::AttemptPublished { attempt, artifacts } => self.publish(attempt.split, artifacts)?,
            Event::LayerOpened { layer, .. } if given_up.contains(layer) => {}
            Event::LayerOpened { layer, splits, .. } => self.opened(*layer, *splits, record.seq)?,
            Event::ExecutionResumed { .. } => {
                if let Some(creation) = self.proposal(&record.event) {
                    creation::update(&self.connection, creation)?;
                }
            }
            // What is said of those depends on what state follows.
            Event::LayerSkipped { .. } | Event::LayerFailed { .. } | Event::SplitCached { .. } => {}
            Event::SplitKeyed { .. }
            | Event::AttemptSized { .. }
            | Event::AttemptOffered { .. }
            | Event::AttemptStarted { .. }
            | Event::RetryScheduled { .. }
            | Event::RetryDue { .. }
            | Event::CancelRequested { .. }
            | Event::ExecutionEnded { .. } => {}
        }
        Ok(())
    }

    /// What was proposed, if this event is the one that says that it is so.
    pub(super) fn proposal(&self, event: &Event) -> Option<&Creation> {
        let number = match event {
            Event::ExecutionResumed { update, .. } => *update,
            _ => None,
        };
        self.proposed
            .as_deref()
            .filter(|creation| number.is_some_and(|number| number as usize == creation.earlier.len()))
    }

    /// A layer has so many splits now. What an earlier opening left beyond them counts no more.
    fn opened(&mut self, layer: LayerId, splits: u32, seq: u64) -> rusqlite::Result<()> {
        let first = Split { layer, index: 0 };
        let line = match self.lines.get(&first) {
            Some(line) => Some(*line),
            None => self.select(first)?,
        };
        if line.is_some_and(|line| line.state == State::Cancelled) {
            // It was cancelled before: the answer to a question that does not matter any more.
            return Ok(());
        }
        self.lines.retain(|split, _| split.layer != layer || split.index < splits);
        for table in ["splits", "artifacts"] {
            self.connection
                .prepare_cached(&format!("DELETE FROM {table} WHERE layer = ? AND split >= ?"))?
                .execute(params![layer.0, splits])?;
        }
        self.connection
            .prepare_cached("UPDATE layers SET splits = ?, opened = ?, state = NULL, reason = NULL WHERE id = ?")?
            .execute(params![splits, Count(seq), layer.0])?;
        Ok(())
    }

    /// What an event says that counts only if this state follows from it, and not where it came too late.
    pub(super) fn conclude(&mut self, event: &Event) -> rusqlite::Result<()> {
        let is = |split: &Split, state| self.lines.get(split).is_some_and(|line| line.state == state);
        match event {
            Event::SplitCached { split, artifacts, .. } if is(split, State::Cached) => self.publish(*split, artifacts),
            Event::LayerFailed { layer, reason } if is(&Split { layer: *layer, index: 0 }, State::Failed) => self
                .connection
                .prepare_cached(
                    "UPDATE layers SET splits = NULL, opened = NULL, state = 'failed', reason = ? WHERE id = ?",
                )?
                .execute(params![reason, layer.0])
                .map(drop),
            _ => Ok(()),
        }
    }

    fn publish(&self, split: Split, artifacts: &[Artifact]) -> rusqlite::Result<()> {
        for artifact in artifacts {
            let (kind, digest, entries, size) = match &artifact.content {
                Content::File { digest, size } => ("file", digest, None, *size),
                Content::Folder { manifest, entries, size } => ("folder", manifest, Some(Count(*entries)), *size),
            };
            let Split { layer, index } = split;
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?, ?, ?, ?)")?
                .execute(params![layer.0, index, artifact.name, kind, digest.to_string(), entries, Count(size)])?;
        }
        Ok(())
    }

    pub(super) fn change(&mut self, change: &Change, at_ms: i64) -> rusqlite::Result<()> {
        if matches!(change.state, State::Waiting | State::Ready) {
            return Ok(());
        }
        let line = self.line(change.split)?;
        if change.state == State::Cached {
            // What it has is not of any attempt, if there was one.
            *line = Line { attempt: line.attempt, touched: line.touched, ..Line::NEW };
        }
        line.state = change.state;
        if change.state.is_settled() && line.ended_ms.is_none() {
            line.ended_ms = Some(at_ms);
        }
        if change.state == State::Skipped && change.split.index == 0 {
            // Splits are skipped with their whole layer.
            self.connection
                .prepare_cached(
                    "UPDATE layers SET splits = NULL, opened = NULL, state = 'skipped', reason = NULL WHERE id = ?",
                )?
                .execute([change.split.layer.0])?;
        }
        Ok(())
    }

    /// Nothing is stored of a split that waits: one that had settled runs again, and what it left counts no more.
    pub(super) fn forget(&mut self, split: Split) -> rusqlite::Result<()> {
        let Split { layer, index } = split;
        self.lines.remove(&split);
        for table in ["splits", "artifacts"] {
            self.connection
                .prepare_cached(&format!("DELETE FROM {table} WHERE layer = ? AND split = ?"))?
                .execute(params![layer.0, index])?;
        }
        if index == 0 {
            // It had no other, if its layer was skipped or could not be opened.
            self.connection
                .prepare_cached("UPDATE layers SET state = NULL, reason = NULL WHERE id = ? AND state IS NOT NULL")?
                .execute([layer.0])?;
        }
        Ok(())
    }

    /// The row of a split, to be changed.
    fn line(&mut self, split: Split) -> rusqlite::Result<&mut Line> {
        if !self.lines.contains_key(&split) {
            let stored = self.select(split)?;
            self.lines.insert(split, stored.unwrap_or(Line::NEW));
        }
        let line = self.lines.entry(split).or_insert(Line::NEW);
        if !std::mem::replace(&mut line.touched, true) {
            self.touched.push(split);
        }
        Ok(line)
    }

    fn select(&self, split: Split) -> rusqlite::Result<Option<Line>> {
        if self.rows.get(split.layer.at()) != Some(&true) {
            return Ok(None);
        }
        self.connection
            .prepare_cached(
                "SELECT state, attempt, outputs, launched_ms, ended_ms, exited, rejected
                 FROM splits WHERE layer = ? AND split = ?",
            )?
            .query_row([split.layer.0, split.index], |row| {
                Ok(Line {
                    state: row::read_state(row, 0)?,
                    attempt: row.get(1)?,
                    outputs: row.get(2)?,
                    launched_ms: row.get(3)?,
                    ended_ms: row.get(4)?,
                    exited: row.get::<_, Option<Count>>(5)?.map(|seq| seq.0),
                    rejected: row.get::<_, Option<Count>>(6)?.map(|seq| seq.0),
                    touched: false,
                })
            })
            .optional()
    }

    /// Writes the rows that the current append is about.
    pub(super) fn upsert(&mut self) -> rusqlite::Result<()> {
        let mut insert =
            self.connection.prepare_cached("INSERT OR REPLACE INTO splits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
        for split in &self.touched {
            let Some(line) = self.lines.get(split) else { continue };
            let at = split.layer.at();
            if at >= self.rows.len() {
                self.rows.resize(at + 1, false);
            }
            self.rows[at] = true;
            insert.execute(params![
                split.layer.0,
                split.index,
                line.state.word(),
                line.attempt,
                line.outputs,
                line.launched_ms,
                line.ended_ms,
                line.exited.map(Count),
                line.rejected.map(Count)
            ])?;
        }
        Ok(())
    }

    /// Nothing more is expected of these; if something comes all the same, the row is read.
    pub(super) fn forget_settled(&mut self) {
        for split in &self.touched {
            match self.lines.get_mut(split) {
                Some(line) if line.state.is_settled() => drop(self.lines.remove(split)),
                Some(line) => line.touched = false,
                None => {}
            }
        }
    }
}
