//! A task that was asked to end: why, when it is forced, and the story of it.

use std::time::Duration;

use laminar_core::executor::seconds;
use tokio::time::Instant;

use crate::place::Why;

/// Farther off than anybody waits.
const NEVER: Duration = Duration::from_secs(1 << 32);

/// A task that was asked to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    why: Why,
    asked: Instant,
    /// When it is forced.
    pub(crate) force_at: Instant,
    forced: Option<Instant>,
}

impl Ending {
    pub(crate) fn new(why: Why, grace: Duration) -> Ending {
        let asked = Instant::now();
        Ending { why, asked, force_at: asked + grace.min(NEVER), forced: None }
    }

    /// Another one asks: the shorter of the two times counts.
    pub(crate) fn hurry(&mut self, grace: Duration) {
        self.force_at = self.force_at.min(Instant::now() + grace.min(NEVER));
    }

    /// It is forced now.
    pub(crate) fn force(&mut self) {
        self.forced.get_or_insert_with(Instant::now);
    }

    /// Why, and what was done.
    pub(crate) fn story(&self, born: Option<Instant>) -> (Why, String) {
        let mut story = "SIGTERM".to_owned();
        if let Some(born) = born {
            story.push_str(&format!(" after {}", seconds(self.asked.saturating_duration_since(born))));
        }
        if let Some(forced) = self.forced {
            story.push_str(&format!(", SIGKILL {} later", seconds(forced.saturating_duration_since(self.asked))));
        }
        (self.why, story)
    }
}
