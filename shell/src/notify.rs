//! Tells systemd that the daemon is up, what it does, and that its control loop is alive.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::published::Published;
use crate::status;

/// Time between two looks at what was published, unless the watchdog needs shorter ones.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two status lines.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The thread that talks to systemd; dropping it says that the daemon stops.
#[derive(Debug)]
pub struct Notifier {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Notifier {
    /// Starts the thread, if systemd listens (`NOTIFY_SOCKET` is set).
    ///
    /// # Errors
    ///
    /// The system's error if it allows no further thread.
    pub fn start(published: Arc<Published>) -> std::io::Result<Option<Self>> {
        if !is_listening() {
            return Ok(None);
        }
        let watchdog = sd_notify::watchdog_enabled();
        // systemd advises half of its patience.
        let interval = watchdog.map_or(LOOK_INTERVAL, |patience| (patience / 2).min(LOOK_INTERVAL));
        let (stop, stopped) = channel::<()>();
        let thread = Builder::new().name("notify".to_owned()).spawn(move || {
            let mut liveness = Liveness::default();
            let mut status_due = Instant::now();
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let ticks = published.pacing().ticks;
                match liveness.look(ticks) {
                    Life::Begun => tell(&[NotifyState::Ready]),
                    Life::GoesOn if watchdog.is_some() => tell(&[NotifyState::Watchdog]),
                    Life::GoesOn | Life::StandsStill => {}
                }
                if ticks > 0 && Instant::now() >= status_due {
                    status_due = Instant::now() + STATUS_INTERVAL;
                    tell(&[NotifyState::Status(&status_line(&published))]);
                }
            }
            tell(&[NotifyState::Stopping]);
        })?;
        Ok(Some(Self { stop, thread: Some(thread) }))
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        // The thread may be gone already.
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Tells systemd that a reload begins.
pub(crate) fn reloading() {
    if is_listening() {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "systemd was not told"),
        }
    }
}

/// Tells systemd that a reload is over, and how it went.
pub(crate) fn reloaded(outcome: &str) {
    if is_listening() {
        tell(&[NotifyState::Ready, NotifyState::Status(outcome)]);
    }
}

fn is_listening() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn status_line(published: &Published) -> String {
    match (published.about(), published.snapshot()) {
        (Some(about), Some(snapshot)) => {
            let router = about.router.to_string();
            status::line(&about.names, &snapshot, &published.pacing(), &router)
        }
        _ => "starting".to_owned(),
    }
}

/// What the number of ticks says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// The first tick is over.
    Begun,
    /// There were further ticks.
    GoesOn,
    /// There was none since the last look.
    StandsStill,
}

/// Follows the number of ticks: the watchdog is fed by ticks, not by success.
#[derive(Debug, Default)]
struct Liveness {
    ticks: u64,
}

impl Liveness {
    fn look(&mut self, ticks: u64) -> Life {
        let before = std::mem::replace(&mut self.ticks, ticks);
        match (before, ticks) {
            (0, 1..) => Life::Begun,
            (before, ticks) if ticks > before => Life::GoesOn,
            _ => Life::StandsStill,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_is_ticks_that_go_on() {
        let mut liveness = Liveness::default();
        let looks = [0, 3, 3, 23, 23].map(|ticks| liveness.look(ticks));
        use Life::{Begun, GoesOn, StandsStill};
        assert_eq!(looks, [StandsStill, Begun, StandsStill, GoesOn, StandsStill]);
    }
}
