//! Signals that ask this process to end, as wishes to the engine: the first cancels, the second kills.
//!
//! A signal that our caller has ignored stays ignored: `nohup laminar run` survives its terminal, and a script's
//! background job its script's Ctrl-C.

use std::io;

use laminar_core::engine::Control;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Takes over SIGINT, SIGTERM and SIGHUP until the runtime ends.
///
/// # Errors
/// When a handler cannot be installed.
pub(crate) fn controls() -> io::Result<UnboundedReceiver<Control>> {
    let (send, receive) = unbounded_channel();
    let ignored = ignored();
    let watched = |kind: SignalKind| {
        let is_ignored = ignored & (1 << (kind.as_raw_value() - 1)) != 0;
        if is_ignored { Ok(None) } else { signal(kind).map(Some) }
    };
    let mut interrupt = watched(SignalKind::interrupt())?;
    let mut terminate = watched(SignalKind::terminate())?;
    let mut hangup = watched(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut control = Control::Cancel;
        loop {
            tokio::select! {
                () = next(&mut interrupt) => {}
                () = next(&mut terminate) => {}
                () = next(&mut hangup) => {}
            }
            if send.send(std::mem::replace(&mut control, Control::Kill)).is_err() {
                return;
            }
        }
    });
    Ok(receive)
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// The signals this process was told to ignore, one bit each. If the kernel does not say, none.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
