//! The wording of what is heard: baselines, reflectors, blindness.

use wanctl_core::outputs::{Event, SampleRejection};
use wanctl_core::units::{Direction, WanId};

use super::{show_delay, show_millis};
use crate::config::show_rate;

/// Returns the line of an event of the signal, and nothing for any other event.
pub(super) fn text<'a>(event: &Event, name: impl Fn(WanId) -> &'a str) -> Option<String> {
    let line = |wan: WanId, direction: Direction| format!("{} {}", name(wan), direction.name());
    Some(match *event {
        Event::BaselineFrozen { wan, baseline, delay } => {
            let (baseline, delay) = (show_millis(baseline), show_delay(delay));
            format!("{}: baseline frozen at {baseline} ms, delay {delay}", name(wan))
        }
        Event::BaselineReleased { wan, baseline } => {
            format!("{}: baseline follows again from {} ms", name(wan), show_millis(baseline))
        }
        Event::BaselineOutOfBounds { wan, candidate } => {
            let candidate = show_millis(candidate);
            format!("{}: baseline held, {candidate} ms is outside its bounds", name(wan))
        }
        Event::BaselineReanchored { wan, from, to } => {
            let (name, from, to) = (name(wan), show_millis(from), show_millis(to));
            format!("{name}: the path has changed, baseline {from} -> {to} ms")
        }
        Event::BlindBegan { wan, connected } => {
            let but = if connected { ", but the line works" } else { "; rates stay as they are" };
            format!("{}: no reflector answers{but}", name(wan))
        }
        Event::BlindLimitReached { wan, ticks } => {
            format!("{}: no reflector has answered for {ticks} ticks", name(wan))
        }
        Event::BlindEnded { wan, .. } => format!("{}: reflectors answer again", name(wan)),
        Event::SignalBlind { wan, direction, rate } => {
            let (line, rate) = (line(wan, direction), show_rate(rate));
            format!("{line}: falls short of its shaper, but pings show no queue; back to {rate}")
        }
        Event::SignalSees { wan, direction } => {
            format!(
                "{}: pings are believed again: they saw a queue, or it is an application that wants no more",
                line(wan, direction)
            )
        }
        Event::SampleRejected { wan, reflector, why } => {
            let why = rejection_text(why);
            format!("{}: a sample of reflector {} was not used: {why}", name(wan), reflector.0)
        }
        _ => return None,
    })
}

fn rejection_text(why: SampleRejection) -> &'static str {
    match why {
        SampleRejection::UnknownSource => "unknown reflector",
        SampleRejection::Stale => "too old",
    }
}
