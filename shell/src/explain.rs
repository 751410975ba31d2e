//! From the core's events to log lines: the one table of levels and wordings.
//!
//! WARN is worth looking at, INFO says what was changed and why, DEBUG is one line per condition.

use tracing::Level;
use wanctl_core::fixed::MicrosQ32;
use wanctl_core::link::{LinkEdge, LinkState};
use wanctl_core::outputs::{Event, RateReason};
use wanctl_core::persist::StateRefusal;
use wanctl_core::quality::LinkQuality;
use wanctl_core::tick::CheckKind;
use wanctl_core::units::{Direction, WanId};

use crate::config::show_rate;

mod signal;
mod steering;

pub(crate) use steering::{decision_text, refusal_text as steering_refusal_text};

/// Writes an event to the log.
pub fn log(event: &Event, names: &[String]) {
    let (level, text) = explain(event, names);
    match level {
        Level::ERROR => tracing::error!("{text}"),
        Level::WARN => tracing::warn!("{text}"),
        Level::INFO => tracing::info!("{text}"),
        Level::DEBUG => tracing::debug!("{text}"),
        Level::TRACE => tracing::trace!("{text}"),
    }
}

/// Returns whether an event's line would be written at all, to spare making its text.
#[must_use]
pub fn is_logged(event: &Event) -> bool {
    level(event) <= tracing::level_filters::LevelFilter::current()
}

/// Returns an event's level and its line.
#[must_use]
pub fn explain(event: &Event, names: &[String]) -> (Level, String) {
    (level(event), text(event, names))
}

fn level(event: &Event) -> Level {
    match event {
        Event::RateChanged { .. }
        | Event::BaselineReanchored { .. }
        | Event::BlindEnded { .. }
        | Event::ConnectivityChecked { .. }
        | Event::SteeringCommanded { .. }
        | Event::SteeringConfirmed { .. }
        | Event::SteeringWouldChange { .. }
        | Event::SignalSees { .. }
        | Event::StateRestored
        | Event::Reconfigured => Level::INFO,
        Event::LinkChanged { to, .. } => match to {
            LinkState::Degrade | LinkState::Reset => Level::WARN,
            LinkState::Init
            | LinkState::Probe
            | LinkState::Warm
            | LinkState::Live
            | LinkState::Cooldown => Level::INFO,
        },
        Event::ZoneChanged { .. }
        | Event::RateConfirmed { .. }
        | Event::WriteHeld { .. }
        | Event::BaselineFrozen { .. }
        | Event::BaselineReleased { .. }
        | Event::SampleRejected { .. } => Level::DEBUG,
        Event::WriteFailed { .. }
        | Event::WriteTimedOut { .. }
        | Event::BaselineOutOfBounds { .. }
        | Event::BlindBegan { .. }
        | Event::SignalBlind { .. }
        | Event::BlindLimitReached { .. }
        | Event::TickGap { .. }
        | Event::InputsDropped { .. }
        | Event::SteeringFailed { .. }
        | Event::SteeringTimedOut { .. }
        | Event::SteeringRefused { .. }
        | Event::SteeringFlapping { .. }
        | Event::SteeringDropsUseless { .. }
        | Event::IncidentMarked { .. }
        | Event::StateRefused { .. } => Level::WARN,
    }
}

fn text(event: &Event, names: &[String]) -> String {
    let name = |wan: WanId| names.get(usize::from(wan.0)).map_or("?", String::as_str);
    let line = |wan: WanId, direction: Direction| format!("{} {}", name(wan), direction.name());
    match *event {
        Event::ZoneChanged { wan, direction, from, to, delay } => {
            let (line, delay) = (line(wan, direction), show_delay(delay));
            format!("{line}: {} -> {}, delay {delay}", from.name(), to.name())
        }
        Event::RateChanged { wan, direction, from, to, reason, delay, baseline } => {
            let from = from.map_or(String::new(), |from| format!("{} -> ", show_rate(from)));
            let (line, to, why) = (line(wan, direction), show_rate(to), reason_text(reason));
            let (delay, baseline) = (show_delay(delay), show_millis(baseline));
            format!("{line}: {from}{to}, {why}; delay {delay} over a baseline of {baseline} ms")
        }
        Event::RateConfirmed { wan, direction, rate, took_us } => {
            let (line, rate) = (line(wan, direction), show_rate(rate));
            let (ms, tenth) = (took_us / 1000, took_us % 1000 / 100);
            format!("{line}: the router holds {rate} after {ms}.{tenth} ms")
        }
        Event::WriteFailed { wan, direction, rate } => {
            format!("{}: writing {} failed", line(wan, direction), show_rate(rate))
        }
        Event::WriteTimedOut { wan, direction, rate } => {
            format!("{}: writing {} was never answered", line(wan, direction), show_rate(rate))
        }
        Event::WriteHeld { wan, direction, wanted, wait } => {
            let (line, wanted) = (line(wan, direction), show_rate(wanted));
            format!("{line}: {wanted} waits {} ms for the write limit", wait.as_millis())
        }
        Event::BaselineFrozen { .. }
        | Event::BaselineReleased { .. }
        | Event::BaselineOutOfBounds { .. }
        | Event::BaselineReanchored { .. }
        | Event::BlindBegan { .. }
        | Event::BlindLimitReached { .. }
        | Event::BlindEnded { .. }
        | Event::SignalBlind { .. }
        | Event::SignalSees { .. }
        | Event::SampleRejected { .. } => signal::text(event, name).unwrap_or_default(),
        Event::LinkChanged { wan, from, to, edge, quality } => {
            let (name, from, to) = (name(wan), from.name(), to.name());
            let (why, quality) = (edge_text(edge), show_quality(&quality));
            format!("{name}: link {from} -> {to}, {why}; {quality}")
        }
        Event::ConnectivityChecked { wan, kind, connected } => {
            format!("{}: {}", name(wan), check_text(kind, connected))
        }
        Event::TickGap { gap } => {
            format!("the tick came {} ms after the last one", gap.as_millis())
        }
        Event::InputsDropped { count } => format!("{count} inputs did not fit into one tick"),
        Event::StateRestored => "going on from the state before the restart".to_owned(),
        Event::StateRefused { why } => refusal_text(why),
        Event::IncidentMarked { number } => format!("incident {number} was marked"),
        Event::Reconfigured => "going on under another configuration".to_owned(),
        Event::SteeringCommanded { .. }
        | Event::SteeringConfirmed { .. }
        | Event::SteeringFailed { .. }
        | Event::SteeringTimedOut { .. }
        | Event::SteeringRefused { .. }
        | Event::SteeringFlapping { .. }
        | Event::SteeringDropsUseless { .. }
        | Event::SteeringWouldChange { .. } => steering::text(event, name).unwrap_or_default(),
    }
}

fn check_text(kind: CheckKind, connected: bool) -> &'static str {
    match (kind, connected) {
        (CheckKind::Gateway, true) => "the gateway answers",
        (CheckKind::Gateway, false) => "the gateway does not answer either",
        (CheckKind::Tcp, true) => "TCP to the internet works",
        (CheckKind::Tcp, false) => "TCP to the internet does not work either",
    }
}

fn refusal_text(why: StateRefusal) -> String {
    let why = match why {
        StateRefusal::Damaged => "the file is damaged",
        StateRefusal::OtherVersion => "another version wrote it",
        StateRefusal::OtherConfig => "the configuration was another one",
        StateRefusal::Age => "it is too old, or from the future",
        StateRefusal::OutOfRange => "a value is out of range",
    };
    format!("the state before the restart is not used: {why}")
}

fn reason_text(reason: RateReason) -> &'static str {
    match reason {
        RateReason::Start => "first write",
        RateReason::Red => "cut: RED",
        RateReason::SoftRed => "cut: SOFT_RED",
        RateReason::Yellow => "cut: YELLOW",
        RateReason::Green => "raise: GREEN",
        RateReason::FloorLift => "raise: floor of the zone",
        RateReason::Again => "written again after a failure",
        RateReason::Ramp => "start rate of a new path",
        RateReason::Queue => "a queue stands: draining it, tracking what the line carries",
        RateReason::Drained => "the queue has gone",
        RateReason::Probe => "no queue, and there is demand: trying more",
        RateReason::Acquitted => "cut by mistake: the queue was not here",
    }
}

fn edge_text(edge: LinkEdge) -> &'static str {
    match edge {
        LinkEdge::Found => "the link is up",
        LinkEdge::Heard => "reflectors answer",
        LinkEdge::WentLive => "warmed up",
        LinkEdge::Degraded => "bad for too long",
        LinkEdge::Improved => "good for long enough",
        LinkEdge::Relapsed => "bad again",
        LinkEdge::Settled => "stayed good",
        LinkEdge::Outage => "nothing answers",
        LinkEdge::LinkDown => "the interface is down",
        LinkEdge::NewAddress => "the address has changed",
        LinkEdge::BeganAgain => "trying again",
    }
}

fn show_quality(quality: &LinkQuality) -> String {
    let loss = quality.loss.as_ppm_rounded();
    format!(
        "delay {}, loss {}.{} %, jitter {} ms",
        show_delay(quality.delay),
        loss / 10_000,
        loss % 10_000 / 1000,
        show_millis(quality.jitter)
    )
}

fn show_delay(delay: MicrosQ32) -> String {
    let sign = if delay < MicrosQ32::ZERO { '-' } else { '+' };
    let size = if sign == '-' { MicrosQ32::ZERO.saturating_sub(delay) } else { delay };
    format!("{sign}{} ms", show_millis(size))
}

/// Returns milliseconds with one decimal, rounded half up.
#[must_use]
pub fn show_millis(time: MicrosQ32) -> String {
    let tenths = (time.as_micros_rounded() + 50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use wanctl_core::units::BitsPerSecond;
    use wanctl_core::zone::Zone;

    use super::*;

    fn names() -> Vec<String> {
        vec!["cable".to_owned()]
    }

    #[test]
    fn a_rate_change_is_an_info_line_that_says_why() {
        let event = Event::RateChanged {
            wan: WanId(0),
            direction: Direction::Download,
            from: Some(BitsPerSecond::from_mbps(94)),
            to: BitsPerSecond::new(79_900_000),
            reason: RateReason::Red,
            delay: MicrosQ32::from_micros(92_140),
            baseline: MicrosQ32::from_micros(24_960),
        };
        let (level, text) = explain(&event, &names());
        assert_eq!(level, Level::INFO);
        assert_eq!(
            text,
            "cable download: 94 Mbit/s -> 79.9 Mbit/s, cut: RED; \
             delay +92.1 ms over a baseline of 25.0 ms"
        );
    }

    #[test]
    fn zones_are_for_debugging_and_a_faster_line_is_negative() {
        let event = Event::ZoneChanged {
            wan: WanId(0),
            direction: Direction::Upload,
            from: Zone::Red,
            to: Zone::Green,
            delay: MicrosQ32::ZERO.saturating_sub(MicrosQ32::from_micros(1_250)),
        };
        let (level, text) = explain(&event, &names());
        assert_eq!(level, Level::DEBUG);
        assert_eq!(text, "cable upload: RED -> GREEN, delay -1.3 ms");
    }

    #[test]
    fn a_state_that_is_not_used_is_a_warning_with_its_reason() {
        let event = Event::StateRefused { why: StateRefusal::OtherConfig };
        let (level, text) = explain(&event, &names());
        assert_eq!(level, Level::WARN);
        let expected =
            "the state before the restart is not used: the configuration was another one";
        assert_eq!(text, expected);
    }

    #[test]
    fn blindness_is_a_warning() {
        let event = Event::BlindBegan { wan: WanId(7), connected: false };
        let (level, text) = explain(&event, &names());
        assert_eq!(level, Level::WARN);
        assert_eq!(text, "?: no reflector answers; rates stay as they are");
    }
}
