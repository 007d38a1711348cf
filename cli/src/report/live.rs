//! Live lines on a terminal: plain lines go up, and below them stands what runs now and how far it is.
//!
//! A thread of its own draws, ten times a second at most, so that a terminal that is slow or stopped (Ctrl-S) does not
//! hold up the execution: the engine's loop only notes down what happened.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use laminar_core::engine::{Progress, Reporter};
use laminar_core::event::{Event, Record};
use laminar_core::id::{LayerId, Split};

use crate::output::{talk_height, talk_width};
use crate::report::fans::Fan;
use crate::report::lines::{Density, Lines, noun, so_far};
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
    /// Foreach layers of which a split was launched or cached and not all have settled, and since when that is so.
    fans: HashMap<LayerId, (Fan, Instant)>,
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
        let lines = Lines::beside(subject, density, Queue(Arc::clone(&screen)));
        Ok(Live { lines, screen, artist: Some(artist) })
    }
}

impl Reporter for Live {
    fn report(&mut self, record: &Record, progress: &Progress) {
        self.lines.report(record, progress);
        self.note(record, progress);
    }

    fn recall(&mut self, record: &Record, progress: &Progress) {
        self.lines.recall(record, progress);
        self.note(record, progress);
    }

    fn notice(&mut self, text: &str) {
        self.lines.notice(text);
    }
}

impl Live {
    /// Remembers what runs and how far it is, to be drawn.
    fn note(&mut self, record: &Record, progress: &Progress) {
        let mut scene = self.screen.scene();
        scene.progress = *progress;
        let (split, is_launched) = match &record.event {
            Event::AttemptLaunched { attempt, .. } => (attempt.split, true),
            Event::AttemptExited { attempt, .. } | Event::AttemptPublished { attempt, .. } => (attempt.split, false),
            Event::SplitCached { split, .. } => (*split, false),
            _ => return,
        };
        match self.lines.fans().of(split.layer) {
            Some(fan) if fan.settled() < fan.splits => {
                scene.fans.entry(split.layer).or_insert((*fan, Instant::now())).0 = *fan;
            }
            Some(_) => drop(scene.fans.remove(&split.layer)),
            None if is_launched => drop(scene.running.insert(split, Instant::now())),
            None => drop(scene.running.remove(&split)),
        }
    }
}

impl Report for Live {
    fn finish(&mut self) -> io::Result<()> {
        self.screen.scene().over = true;
        self.screen.over.notify_all();
        if let Some(artist) = self.artist.take() {
            let _ = artist.join();
        }
        Ok(())
    }
}

/// The engine may have failed: what is drawn must be gone before the error is told.
impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

fn draw(screen: &Screen, subject: &Subject) {
    let begun = Instant::now();
    let mut canvas = Canvas::default();
    loop {
        let scene = screen.scene();
        let (mut scene, _) =
            screen.over.wait_timeout_while(scene, FRAME, |scene| !scene.over).unwrap_or_else(PoisonError::into_inner);
        let above = std::mem::take(&mut scene.above);
        let over = scene.over;
        let frame =
            if over { String::new() } else { frame(&scene, subject, begun.elapsed(), talk_width(), talk_height()) };
        drop(scene);
        let _ = io::stderr().write_all(&canvas.draw(&above, &frame));
        if over {
            return;
        }
    }
}

/// The lines that are drawn again and again. The cursor rests behind the last of them, where the `^C` that a terminal
/// echoes does no harm.
#[derive(Default)]
struct Canvas {
    /// How many lines stand there.
    lines: usize,
}

impl Canvas {
    /// The bytes that put lines above, and a frame in place of the last one.
    fn draw(&mut self, above: &[u8], frame: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(above.len() + frame.len() + 64);
        bytes.push(b'\r');
        if self.lines > 1 {
            bytes.extend_from_slice(format!("\x1b[{}A", self.lines - 1).as_bytes());
        }
        if !above.is_empty() {
            bytes.extend_from_slice(b"\x1b[J");
            bytes.extend_from_slice(above);
        }
        for (at, line) in frame.lines().enumerate() {
            if at > 0 {
                bytes.push(b'\n');
            }
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(b"\x1b[K");
        }
        bytes.extend_from_slice(b"\x1b[J");
        self.lines = frame.lines().count();
        bytes
    }
}

/// What stands below the lines: the layers that have run longest, and how far it is.
fn frame(scene: &Scene, subject: &Subject, elapsed: Duration, width: usize, height: usize) -> String {
    let style = subject.style;
    let single = scene.running.iter().map(|(split, since)| (*since, *split, None));
    let first = |layer| Split { layer, index: 0 };
    let fans = scene.fans.iter().map(|(layer, (fan, since))| (*since, first(*layer), Some(*fan)));
    let mut running: Vec<(Instant, Split, Option<Fan>)> = single.chain(fans).collect();
    running.sort_unstable_by_key(|(since, split, _)| (*since, *split));
    let shown = MOST_RUNNING.min(height.saturating_sub(4)).max(1);
    let mut frame = String::new();
    for (since, split, fan) in running.iter().take(shown) {
        let name = match fan {
            None => subject.names.split(*split),
            Some(fan) => {
                let bad = [(fan.failed, "failed"), (fan.cancelled, "cancelled")];
                let bad =
                    bad.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!(", {number} {word}"));
                let bad: String = bad.collect();
                let name = subject.names.layer(split.layer);
                format!("{name}  {}/{}, {} running{bad}", fan.settled(), fan.splits, fan.running)
            }
        };
        let line = format!("{name}  {}", duration::short(since.elapsed()));
        let room = width.saturating_sub("running  ".len() + 6);
        frame.push_str(&format!("{}  {}\n", style.cyan("running"), visible::cut(&line, room)));
    }
    if running.len() > shown {
        frame.push_str(&format!("         and {} more\n", running.len() - shown));
    }
    let so_far = so_far(&scene.progress, noun(subject), elapsed);
    let line = format!("{} {so_far}", bar(&scene.progress));
    frame.push_str(&visible::cut(&line, width.saturating_sub(6)));
    frame
}

fn bar(progress: &Progress) -> String {
    let total = (progress.total as usize).max(1);
    let done = BAR * progress.settled() as usize / total;
    let (done, left) = ("#".repeat(done), "-".repeat(BAR - done));
    format!("[{done}{left}]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::subject;

    #[test]
    fn a_frame_takes_the_place_of_the_last_one() {
        let mut canvas = Canvas::default();
        assert_eq!(canvas.draw(b"", "one\ntwo"), b"\rone\x1b[K\ntwo\x1b[K\x1b[J");
        assert_eq!(canvas.draw(b"said\n", "three"), b"\r\x1b[1A\x1b[Jsaid\nthree\x1b[K\x1b[J");
        assert_eq!(canvas.draw(b"", ""), b"\r\x1b[J");
    }

    #[test]
    fn a_frame_fits_the_terminal() {
        let folder = std::path::Path::new("/nowhere");
        let now = Instant::now();
        let running = (0..50).map(|layer| (Split { layer: laminar_core::id::LayerId(layer), index: 0 }, now)).collect();
        let progress = Progress { total: 50, running: 50, ..Progress::default() };
        let fan = Fan { splits: 100_000, running: 8, well: 1200, failed: 3, cancelled: 2, ..Fan::default() };
        let first = now.checked_sub(Duration::from_secs(60)).unwrap_or(now);
        let fans = HashMap::from([(LayerId(1), (fan, first))]);
        let scene = Scene { running, fans, progress, ..Scene::default() };
        let subject = subject(folder);
        let whole = super::frame(&scene, &subject, Duration::ZERO, 100, 10);
        assert!(whole.starts_with("running  B  1205/100000, 8 running, 3 failed, 2 cancelled  1 min"), "{whole}");
        let frame = frame(&scene, &subject, Duration::ZERO, 40, 10);
        assert!(frame.lines().count() <= 9 && frame.contains("and 45 more"), "{frame}");
        assert!(frame.lines().all(|line| line.chars().count() < 40), "{frame}");
    }
}
