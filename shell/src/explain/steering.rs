//! The wording of steering's events.

use wanctl_core::outputs::Event;
use wanctl_core::steering::{SteeringDecision, SteeringEvidence, SteeringReason, SteeringRefusal};
use wanctl_core::units::WanId;

use super::show_delay;

/// Returns the line of an event of steering, and nothing for any other event.
pub(super) fn text<'a>(event: &Event, name: impl Fn(WanId) -> &'a str) -> Option<String> {
    let way = |to: Option<WanId>| to.map_or("the primary", &name);
    Some(match *event {
        Event::SteeringCommanded { decision } => {
            format!("steering: {}", decision_text(&decision, name))
        }
        Event::SteeringWouldChange { decision } => {
            format!("steering would change: {}", decision_text(&decision, name))
        }
        Event::SteeringConfirmed { to, took_us } => {
            let (way, took) = (way(to), took_us / 1000);
            format!("steering: the router sends traffic to {way} after {took} ms")
        }
        Event::SteeringFailed { to } => {
            format!("steering: the command to send traffic to {} failed", way(to))
        }
        Event::SteeringTimedOut { to } => {
            format!("steering: the command to send traffic to {} was never answered", way(to))
        }
        Event::SteeringRefused { why } => {
            format!("steering: traffic stays where it is, {}", refusal_text(why))
        }
        Event::SteeringFlapping { penalty } => {
            format!("steering: back and forth too often, held for {} s", penalty.as_secs())
        }
        Event::SteeringDropsUseless { wan } => {
            let name = name(wan);
            format!("{name}: its drop counter never moves; delay and backlog decide on steering")
        }
        _ => return None,
    })
}

/// Says where traffic is to go, and with what evidence.
pub(crate) fn decision_text<'a>(
    decision: &SteeringDecision,
    name: impl Fn(WanId) -> &'a str,
) -> String {
    let why = reason_text(decision.reason);
    let way = match (decision.from, decision.to) {
        (None, Some(to)) => format!("traffic to {}", name(to)),
        (Some(from), None) => format!("traffic back from {}", name(from)),
        (Some(from), Some(to)) if from != to => {
            format!("traffic from {} to {}", name(from), name(to))
        }
        (Some(to), Some(_)) => format!("traffic stays with {}", name(to)),
        (None, None) => "traffic stays with the primary".to_owned(),
    };
    if matches!(decision.reason, SteeringReason::Start | SteeringReason::Again) {
        return format!("{way}, {why}");
    }
    let primary = evidence_text(&decision.primary);
    let alternate = evidence_text(&decision.alternate);
    format!("{way}, {why}; primary {primary}; alternate {alternate}")
}

fn evidence_text(evidence: &SteeringEvidence) -> String {
    if evidence.outage {
        return "OUTAGE".to_owned();
    }
    let Some(delay) = evidence.delay else { return "not measured".to_owned() };
    let mut text = format!("{} delay {}", evidence.zone.name(), show_delay(delay));
    if let (Some(drops), Some(backlog)) = (evidence.drops, evidence.backlog) {
        text.push_str(&format!(", {} drops, {} packets waiting", drops.0, backlog.0));
    }
    text.push_str(&format!(", score {}", evidence.score));
    text
}

fn reason_text(reason: SteeringReason) -> &'static str {
    match reason {
        SteeringReason::Start => "first write",
        SteeringReason::Again => "written again after a failure",
        SteeringReason::Red => "RED for too long",
        SteeringReason::Green => "GREEN for long enough",
        SteeringReason::HighScore => "its score was high for too long",
        SteeringReason::LowScore => "its score was low for long enough",
        SteeringReason::Outage => "the primary carries nothing",
        SteeringReason::AlternateOutage => "the alternate carries nothing",
        SteeringReason::AlternateRed => "the alternate was RED for too long",
    }
}

/// Says what holds a change back.
pub(crate) fn refusal_text(why: SteeringRefusal) -> &'static str {
    match why {
        SteeringRefusal::HoldDown => "the last change is too recent",
        SteeringRefusal::FlapGuard => "traffic went back and forth too often",
        SteeringRefusal::NoAlternate => "no alternate is better off",
    }
}

#[cfg(test)]
mod tests {
    use wanctl_core::fixed::MicrosQ32;
    use wanctl_core::units::Packets;
    use wanctl_core::zone::Zone;

    use super::*;

    fn told(event: Event) -> String {
        text(&event, |wan| if wan == WanId(0) { "cable" } else { "lte" }).unwrap()
    }

    fn evidence(zone: Zone, millis: u64) -> SteeringEvidence {
        let delay = Some(MicrosQ32::from_micros(millis * 1000));
        SteeringEvidence { zone, delay, ..SteeringEvidence::default() }
    }

    #[test]
    fn a_decision_is_one_line_with_all_its_evidence() {
        let queue = SteeringEvidence {
            score: 70,
            drops: Some(Packets(3)),
            backlog: Some(Packets(120)),
            ..evidence(Zone::Red, 62)
        };
        let (primary, alternate) = (queue, evidence(Zone::Green, 2));
        let (to, reason) = (Some(WanId(1)), SteeringReason::Red);
        let decision = SteeringDecision { from: None, to, reason, primary, alternate };
        let expected = "steering: traffic to lte, RED for too long; primary RED delay +62.0 ms, 3 \
                        drops, 120 packets waiting, score 70; alternate GREEN delay +2.0 ms, score 0";
        assert_eq!(told(Event::SteeringCommanded { decision }), expected);
        let would = told(Event::SteeringWouldChange { decision });
        assert!(would.starts_with("steering would change: traffic to lte, "), "{would}");
    }

    #[test]
    fn the_way_back_and_the_ends_of_commands_name_the_line() {
        let (from, reason) = (Some(WanId(1)), SteeringReason::AlternateOutage);
        let out = SteeringEvidence { outage: true, ..SteeringEvidence::default() };
        let primary = SteeringEvidence::default();
        let decision = SteeringDecision { from, to: None, reason, primary, alternate: out };
        let expected = "steering: traffic back from lte, the alternate carries nothing; primary not \
                        measured; alternate OUTAGE";
        assert_eq!(told(Event::SteeringCommanded { decision }), expected);
        let start = SteeringDecision { from: None, reason: SteeringReason::Start, ..decision };
        let expected = "steering: traffic stays with the primary, first write";
        assert_eq!(told(Event::SteeringCommanded { decision: start }), expected);
        let confirmed = Event::SteeringConfirmed { to: from, took_us: 41_900 };
        assert_eq!(told(confirmed), "steering: the router sends traffic to lte after 41 ms");
        let failed = told(Event::SteeringFailed { to: None });
        assert_eq!(failed, "steering: the command to send traffic to the primary failed");
    }

    #[test]
    fn what_holds_a_change_back_is_said() {
        let refused = told(Event::SteeringRefused { why: SteeringRefusal::NoAlternate });
        assert_eq!(refused, "steering: traffic stays where it is, no alternate is better off");
    }
}
