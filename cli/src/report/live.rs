//! Live lines on a terminal: plain lines go up, and below them stands what runs now and how far it is.
//!
//! A thread of its own draws, ten times a second at most, so that a terminal that is slow or stopped (Ctrl-S) does not
//! hold up the execution: the engine's loop only notes down what happened.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use laminar_core::engine::{Progress, Reporter};
use laminar_core::event::{Event, Record};
use laminar_core::id::Split;

use crate::output::{talk_height, talk_width};
use crate::report::lines::{Density, Lines, so_far};
use crate::report::{Report, Subject};
use crate::text::{duration, visible};

/// The time from one drawing to the next.
const FRAME: Duration = Duration::from_millis(100);
/// The most running layers that are shown.
const MOST_RUNNING: usize = 8;
/// How wide the bar is.
const BAR: usize = 24;

/// Draws on a terminal.
pub(crate) struct Live {
    lines: Lines<Queue>,
    screen: Arc<Screen>,
    artist: Option<JoinHandle<()>>,
}

/// What the engine's loop and the drawing thread share.
#[derive(Default)]
struct Screen {
    scene: Mutex<Scene>,
    over: Condvar,
}

/// What there is to draw.
#[derive(Default)]
struct Scene {
    /// Lines that are to go up.
    above: Vec<u8>,
    running: HashMap<Split, Instant>,
    progress: Progress,
    over: bool,
}

impl Screen {
    fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes lines for the drawing thread.
struct Queue(Arc<Screen>);

impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.scene().above.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Live {
    /// Starts to draw on standard error.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn new(subject: Arc<Subject>, density: Density) -> io::Result<Live> {
        let screen = Arc::new(Screen::default());
        screen.scene().progress.total = u32::try_from(subject.names.len()).unwrap_or(u32::MAX);
        let artist = {
            let (screen, subject) = (Arc::clone(&screen), Arc::clone(&subject));
            std::thread::Builder::new().name("live".to_owned()).spawn(move || draw(&screen, &subject))?
        };
        // How far it is stands below already.
        let density = if density == Density::Pulse { Density::Changes } else { density };
        let lines = Lines::new(subject, density, Queue(Arc::clone(&screen)));
        Ok(Live { lines, screen, artist: Some(artist) })
    }
}

impl Reporter for Live {
    fn report(&mut self, record: &Record, progress: &Progress) {
        self.lines.report(record, progress);
        let mut scene = self.screen.scene();
        scene.progress = *progress;
        match &record.event {
            Event::AttemptLaunched { attempt, .. } => {
                scene.running.insert(attempt.split, Instant::now());
            }
            Event::AttemptExited { attempt, .. } => {
                scene.running.remove(&attempt.split);
            }
            _ => {}
        }
    }

    fn notice(&mut self, text: &str) {
        self.lines.notice(text);
    }
}

impl Report for Live {
    fn finish(&mut self) {
        self.screen.scene().over = true;
        self.screen.over.notify_all();
        if let Some(artist) = self.artist.take() {
            let _ = artist.join();
        }
    }
}

/// The engine may have failed: what is drawn must be gone before the error is told.
impl Drop for Live {
    fn drop(&mut self) {
        self.finish();
    }
}

fn draw(screen: &Screen, subject: &Subject) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    let begun = Instant::now();
    loop {
        let scene = screen.scene();
        let (mut scene, _) =
            screen.over.wait_timeout_while(scene, FRAME, |scene| !scene.over).unwrap_or_else(PoisonError::into_inner);
        let above = std::mem::take(&mut scene.above);
        let over = scene.over;
        let frame = frame(&scene, subject, begun.elapsed(), talk_width(), talk_height());
        drop(scene);
        if !above.is_empty() {
            bar.suspend(|| {
                let _ = io::stderr().write_all(&above);
            });
        }
        if over {
            bar.finish_and_clear();
            return;
        }
        bar.set_message(frame);
    }
}

/// What stands below the lines: the layers that have run longest, and how far it is.
fn frame(scene: &Scene, subject: &Subject, elapsed: Duration, width: usize, height: usize) -> String {
    let style = subject.style;
    let mut running: Vec<(Split, Instant)> = scene.running.iter().map(|(split, since)| (*split, *since)).collect();
    running.sort_unstable_by_key(|(split, since)| (*since, *split));
    let shown = MOST_RUNNING.min(height.saturating_sub(4)).max(1);
    let mut frame = String::new();
    for (split, since) in running.iter().take(shown) {
        let line = format!("{}  {}", subject.names.split(*split), duration::short(since.elapsed()));
        let room = width.saturating_sub("running  ".len() + 2);
        frame.push_str(&format!("{}  {}\n", style.cyan("running"), visible::cut(&line, room)));
    }
    if running.len() > shown {
        frame.push_str(&format!("         and {} more\n", running.len() - shown));
    }
    let so_far = so_far(&scene.progress, elapsed);
    let line = format!("{} {so_far}", bar(&scene.progress));
    frame.push_str(&visible::cut(&line, width.saturating_sub(2)));
    frame
}

fn bar(progress: &Progress) -> String {
    let total = (progress.total as usize).max(1);
    let done = BAR * progress.settled() as usize / total;
    let (done, left) = ("#".repeat(done), "-".repeat(BAR - done));
    format!("[{done}{left}]")
}
