//! The `[steering]` table.

use std::time::Duration;

use toml::de::{DeTable, DeValue};
use wanctl_core::steering::{
    ConfidenceConfig, FlapGuardConfig, MAX_TOGGLES, SteeringConfig, SteeringThresholds,
};
use wanctl_core::units::{Packets, TimeConstant, WanId};

use super::load::{boolean, check_duration, duration, string, table_of, to_core};
use super::reader::{Placed, Problems, Refusal, Section};
use crate::exit::ExitReason;
use crate::routeros::{SteeringRule, SteeringRules};

/// The longest time that makes sense in steering.
const TIME_MAX: Duration = Duration::from_secs(86_400);
/// The longest comment of a rule, in characters.
const COMMENT_MAX: usize = 128;
/// The most packets a threshold may name.
const PACKETS_MAX: u64 = 1_000_000;

/// The names of the WANs, in their order.
pub(super) struct Names<'a> {
    pub(super) list: Vec<&'a str>,
    /// Whether every WAN could be read. Otherwise a name that is missing may be one of the others,
    /// about which something has been said already.
    pub(super) are_complete: bool,
}

/// Reads `[steering]`.
pub(super) fn read(
    mut section: Section<'_>,
    names: &Names<'_>,
    tick: Duration,
    problems: &mut Problems,
) -> Option<(SteeringConfig, SteeringRules)> {
    let primary = section.optional(problems, "primary", string);
    let rules = section.required(problems, "rules", table_of("steering.rules"));
    let primary = match primary {
        Some(placed) => find_wan(&placed, names, problems),
        None => Some(WanId(0)),
    };
    let rules = rules.and_then(|table| read_rules(&table, names, primary, problems));
    let mut config = SteeringConfig::new(&[], to_core(tick));
    if let Some(placed) = section.optional(problems, "dry-run", boolean) {
        config.dry_run = placed.value;
    }
    times(&mut section, &mut config, problems);
    if let Some(table) = section.table(problems, "thresholds") {
        config.thresholds = thresholds(table, problems);
    }
    config.flap_guard = flap_guard(&mut section, problems);
    config.confidence =
        section.table(problems, "confidence").map(|table| confidence(table, problems));
    section.finish(problems);
    let (primary, rules) = (primary?, rules?);
    let wans: Vec<WanId> =
        std::iter::once(primary).chain(rules.iter().map(|rule| rule.wan)).collect();
    config.wans = wans.into_iter().collect();
    let dry_run = config.dry_run;
    Some((config, SteeringRules { rules, dry_run, ..SteeringRules::default() }))
}

fn find_wan(name: &Placed<String>, names: &Names<'_>, problems: &mut Problems) -> Option<WanId> {
    let ids = (0..).map(WanId);
    let found = ids.zip(&names.list).find(|(_, known)| **known == name.value).map(|(id, _)| id);
    if found.is_none() && names.are_complete {
        let subject = format!("{} = \"{}\"", name.key, name.value);
        let hint = format!("the WANs are {}", names.list.join(", "));
        let message = "there is no WAN of this name";
        problems.add(ExitReason::ConfigValue, name.at.clone(), subject, message, Some(hint));
    }
    found
}

/// Reads `rules`: the comment of a mangle rule for each alternate, in the order of the WANs.
fn read_rules(
    table: &Placed<&DeTable<'_>>,
    names: &Names<'_>,
    primary: Option<WanId>,
    problems: &mut Problems,
) -> Option<Vec<SteeringRule>> {
    let mut rules: Vec<SteeringRule> = Vec::new();
    for (name, value) in table.value {
        let at = name.span();
        let name = Placed {
            value: name.get_ref().to_string(),
            at: at.clone(),
            key: format!("{}.{}", table.key, name.get_ref()),
        };
        let subject = name.key.clone();
        let mut complain = |reason, at, message: &str| {
            problems.add(reason, at, subject.clone(), message, None);
        };
        let Ok(comment) = comment(value.get_ref()) else {
            let message = format!("expected the rule's comment: 1 to {COMMENT_MAX} characters");
            complain(ExitReason::ConfigText, value.span(), &message);
            continue;
        };
        if rules.iter().any(|rule| rule.comment == comment) {
            let message = "this rule is used twice; every alternate needs its own";
            complain(ExitReason::ConfigValue, value.span(), message);
        }
        let Some(wan) = find_wan(&name, names, problems) else { continue };
        if Some(wan) == primary {
            let message = "the primary needs no rule: traffic is there when no rule is on";
            problems.add(ExitReason::ConfigValue, at, name.key, message, None);
            continue;
        }
        rules.push(SteeringRule { wan, comment });
    }
    rules.sort_by_key(|rule| rule.wan);
    if table.value.is_empty() {
        let message = "name at least one alternate and the comment of its mangle rule";
        let hint = Some("rules = { lte = \"wanctl: latency to LTE\" }".to_owned());
        let key = table.key.as_str();
        problems.add(ExitReason::ConfigText, table.at.clone(), key, message, hint);
    }
    (!rules.is_empty()).then_some(rules)
}

/// Reads the comment of a rule. RouterOS keeps it as it is written, so nothing is trimmed.
fn comment(value: &DeValue<'_>) -> Result<String, ()> {
    let text = value.as_str().unwrap_or_default();
    let is_printable = text.chars().all(|c| !c.is_control());
    if (1..=COMMENT_MAX).contains(&text.chars().count()) && is_printable {
        Ok(text.to_owned())
    } else {
        Err(())
    }
}

fn times(section: &mut Section<'_>, config: &mut SteeringConfig, problems: &mut Problems) {
    let mut set = |key, target: &mut embassy_time::Duration| {
        if let Some(placed) = section.optional(problems, key, duration) {
            check_duration(&placed, Duration::ZERO, TIME_MAX, problems);
            *target = to_core(placed.value);
        }
    };
    set("on-after", &mut config.on_after);
    set("off-after", &mut config.off_after);
    set("hold-down", &mut config.hold_down);
    let mut filter = |key, target: &mut TimeConstant| {
        if let Some(placed) = section.optional(problems, key, duration) {
            let (least, most) = (Duration::from_millis(1), Duration::from_secs(3600));
            check_duration(&placed, least, most, problems);
            let nanos = u64::try_from(placed.value.as_nanos()).unwrap_or(u64::MAX);
            *target = TimeConstant::from_nanos(nanos.max(1));
        }
    };
    filter("delay-time-constant", &mut config.delay_time_constant);
    filter("backlog-time-constant", &mut config.backlog_time_constant);
}

fn thresholds(mut section: Section<'_>, problems: &mut Problems) -> SteeringThresholds {
    let mut thresholds = SteeringThresholds::DEFAULT;
    let mut time = |key, target: &mut embassy_time::Duration| {
        if let Some(placed) = section.optional(problems, key, duration) {
            check_duration(&placed, Duration::from_millis(1), Duration::from_secs(10), problems);
            *target = to_core(placed.value);
        }
    };
    time("yellow-delay", &mut thresholds.yellow_delay);
    time("red-delay", &mut thresholds.red_delay);
    time("severe-delay", &mut thresholds.severe_delay);
    let mut packets = |key, target: &mut Packets| {
        if let Some(placed) = section.optional(problems, key, |value| integer(value, PACKETS_MAX)) {
            *target = Packets(placed.value);
        }
    };
    packets("red-drops", &mut thresholds.red_drops);
    packets("yellow-backlog", &mut thresholds.yellow_backlog);
    packets("red-backlog", &mut thresholds.red_backlog);
    let at = section.at();
    section.finish(problems);
    let delays = thresholds.yellow_delay <= thresholds.red_delay
        && thresholds.red_delay <= thresholds.severe_delay;
    if !delays || thresholds.yellow_backlog > thresholds.red_backlog {
        let message = "thresholds must rise from yellow to red to severe";
        problems.add(ExitReason::ConfigValue, at, "steering.thresholds", message, None);
    }
    thresholds
}

/// Reads `flap-guard`: a table, or `false` to switch it off.
fn flap_guard(section: &mut Section<'_>, problems: &mut Problems) -> Option<FlapGuardConfig> {
    let mut guard = FlapGuardConfig::DEFAULT;
    let is_off = |value: &DeValue<'_>| value.as_bool() == Some(false);
    let read = |value| -> Result<Option<&DeTable<'_>>, String> {
        if is_off(value) { Ok(None) } else { table_of("steering.flap-guard")(value).map(Some) }
    };
    let Some(placed) = section.optional(problems, "flap-guard", read) else { return Some(guard) };
    let mut section = Section::new(placed.value?, placed.at, placed.key);
    let mut time = |key, target: &mut embassy_time::Duration| {
        if let Some(placed) = section.optional(problems, key, duration) {
            check_duration(&placed, Duration::from_secs(1), TIME_MAX, problems);
            *target = to_core(placed.value);
        }
    };
    time("window", &mut guard.window);
    time("penalty", &mut guard.penalty);
    let most = u8::try_from(MAX_TOGGLES - 1).unwrap_or(u8::MAX);
    let mut small = |key, least, most: u8, target: &mut u8| {
        let read = |value: &DeValue<'_>| small_integer(value, least, most);
        if let Some(placed) = section.optional(problems, key, read) {
            *target = placed.value;
        }
    };
    small("max-changes", 1, most, &mut guard.max_toggles);
    small("added-score", 0, 100, &mut guard.added_score);
    section.finish(problems);
    Some(guard)
}

fn confidence(mut section: Section<'_>, problems: &mut Problems) -> ConfidenceConfig {
    let mut confidence = ConfidenceConfig::DEFAULT;
    let mut score = |key, target: &mut u8| {
        let read = |value: &DeValue<'_>| small_integer(value, 0, 100);
        if let Some(placed) = section.optional(problems, key, read) {
            *target = placed.value;
        }
    };
    score("steer-score", &mut confidence.steer_score);
    score("recovery-score", &mut confidence.recovery_score);
    let mut time = |key, target: &mut embassy_time::Duration| {
        if let Some(placed) = section.optional(problems, key, duration) {
            check_duration(&placed, Duration::ZERO, TIME_MAX, problems);
            *target = to_core(placed.value);
        }
    };
    time("sustain", &mut confidence.sustain);
    time("recovery-sustain", &mut confidence.recovery_sustain);
    if let Some(placed) = section.optional(problems, "dry-run", boolean) {
        confidence.dry_run = placed.value;
    }
    let at = section.at();
    section.finish(problems);
    if confidence.recovery_score >= confidence.steer_score {
        let message = "recovery-score must be below steer-score";
        problems.add(ExitReason::ConfigValue, at, "steering.confidence", message, None);
    }
    confidence
}

fn small_integer(value: &DeValue<'_>, least: u8, most: u8) -> Result<u8, Refusal> {
    let number = integer(value, u64::from(most))?;
    let number = u8::try_from(number).ok().filter(|number| *number >= least);
    number.ok_or_else(|| Refusal::out_of_range(format!("must be {least} to {most}")))
}

fn integer(value: &DeValue<'_>, most: u64) -> Result<u64, Refusal> {
    let digits = value.as_integer().map(|integer| (integer.as_str(), integer.radix()));
    let number = digits.and_then(|(digits, radix)| u64::from_str_radix(digits, radix).ok());
    let number = number.ok_or_else(|| "expected a whole number".to_owned())?;
    if number > most {
        return Err(Refusal::out_of_range(format!("must be at most {most}")));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use wanctl_core::steering::SteeringQuirks;

    use super::super::{DaemonConfig, ReadFiles, parse};
    use super::*;

    fn text(steering: &str) -> String {
        let mut text = "[router]\nurl = \"https://192.0.2.1\"\nuser = \"wanctl\"\n\
                        password-file = \"password\"\n"
            .to_owned();
        for name in ["cable", "dsl", "lte"] {
            text.push_str(&format!(
                "[[wan]]\nname = \"{name}\"\nreflectors = [\"192.0.2.7\"]\n\
                 download = {{ queue = \"{name}-down\", ceiling = \"90M\", floor = \"9M\" }}\n\
                 upload = {{ queue = \"{name}-up\", ceiling = \"9M\", floor = \"1M\" }}\n"
            ));
        }
        text + steering
    }

    fn read(steering: &str) -> DaemonConfig {
        let config = parse(Path::new("wanctl.toml"), &text(steering), ReadFiles::No);
        config.unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// What the user is told, and the exit code's reason.
    fn told(steering: &str) -> (ExitReason, String) {
        let problems = parse(Path::new("wanctl.toml"), &text(steering), ReadFiles::No).unwrap_err();
        assert_eq!(problems.list().len(), 1, "{problems}");
        (problems.reason(), problems.to_string())
    }

    #[test]
    fn without_the_table_nothing_steers() {
        let config = read("");
        assert_eq!(config.core.steering, None);
        assert_eq!(config.steering_rules, SteeringRules::default());
    }

    #[test]
    fn rules_are_enough_and_the_first_wan_is_the_primary() {
        let config = read("[steering]\nrules = { lte = \"to LTE\", dsl = \"to DSL\" }\n");
        let steering = config.core.steering.unwrap();
        let tick = embassy_time::Duration::from_millis(50);
        assert_eq!(steering, SteeringConfig::new(&[WanId(0), WanId(1), WanId(2)], tick));
        let rule = |wan, comment: &str| SteeringRule { wan: WanId(wan), comment: comment.into() };
        assert_eq!(config.steering_rules.rules, [rule(1, "to DSL"), rule(2, "to LTE")]);
    }

    #[test]
    fn every_key_reaches_the_core() {
        let config = read(
            "[steering]\nprimary = \"lte\"\nrules = { cable = \"x\" }\ndry-run = true\n\
             on-after = \"1s\"\noff-after = \"2s\"\nhold-down = \"3s\"\n\
             delay-time-constant = \"100ms\"\nbacklog-time-constant = \"200ms\"\n\
             [steering.thresholds]\nyellow-delay = \"4ms\"\nred-delay = \"5ms\"\n\
             severe-delay = \"6ms\"\nred-drops = 7\nyellow-backlog = 8\nred-backlog = 9\n\
             [steering.flap-guard]\nwindow = \"10s\"\nmax-changes = 11\npenalty = \"12s\"\n\
             added-score = 13\n[steering.confidence]\nsteer-score = 14\nrecovery-score = 0\n\
             sustain = \"15s\"\nrecovery-sustain = \"16s\"\ndry-run = false\n",
        );
        let seconds = embassy_time::Duration::from_secs;
        let ms = embassy_time::Duration::from_millis;
        let steering = config.core.steering.unwrap();
        assert!(config.steering_rules.dry_run);
        let expected = SteeringConfig {
            tick: ms(50),
            wans: [WanId(2), WanId(0)].into_iter().collect(),
            dry_run: true,
            thresholds: SteeringThresholds {
                yellow_delay: ms(4),
                red_delay: ms(5),
                severe_delay: ms(6),
                red_drops: Packets(7),
                yellow_backlog: Packets(8),
                red_backlog: Packets(9),
            },
            delay_time_constant: TimeConstant::from_millis(100),
            backlog_time_constant: TimeConstant::from_millis(200),
            on_after: seconds(1),
            off_after: seconds(2),
            hold_down: seconds(3),
            flap_guard: Some(FlapGuardConfig {
                window: seconds(10),
                max_toggles: 11,
                penalty: seconds(12),
                added_score: 13,
            }),
            confidence: Some(ConfidenceConfig {
                steer_score: 14,
                recovery_score: 0,
                sustain: seconds(15),
                recovery_sustain: seconds(16),
                dry_run: false,
            }),
            quirks: SteeringQuirks::NONE,
        };
        assert_eq!(steering, expected);
    }

    #[test]
    fn the_flap_guard_can_be_switched_off() {
        let config = read("[steering]\nrules = { lte = \"x\" }\nflap-guard = false\n");
        assert_eq!(config.core.steering.unwrap().flap_guard, None);
    }

    #[test]
    fn mistakes_are_explained() {
        let cases = [
            ("", ExitReason::ConfigText, "steering.rules\n  this key is required and missing"),
            ("rules = {}", ExitReason::ConfigText, "name at least one alternate"),
            ("rules = { lte = \"\" }", ExitReason::ConfigText, "1 to 128 characters"),
            ("rules = { let = \"x\" }", ExitReason::ConfigValue, "the WANs are cable, dsl, lte"),
            ("rules = { lte = \"x\", cable = \"y\" }", ExitReason::ConfigValue, "needs no rule"),
            ("rules = { lte = \"x\", dsl = \"x\" }", ExitReason::ConfigValue, "used twice"),
            (
                "primary = \"fibre\"\nrules = { lte = \"x\" }",
                ExitReason::ConfigValue,
                "steering.primary = \"fibre\"\n  there is no WAN of this name",
            ),
            (
                "rules = { lte = \"x\" }\nthresholds = { red-delay = \"10ms\" }",
                ExitReason::ConfigValue,
                "must rise from yellow to red to severe",
            ),
            (
                "rules = { lte = \"x\" }\nthresholds = { red-drops = \"1\" }",
                ExitReason::ConfigText,
                "expected a whole number",
            ),
            (
                "rules = { lte = \"x\" }\nflap-guard = { max-changes = 20 }",
                ExitReason::ConfigValue,
                "must be at most 19",
            ),
            (
                "rules = { lte = \"x\" }\nconfidence = { recovery-score = 55 }",
                ExitReason::ConfigValue,
                "recovery-score must be below steer-score",
            ),
            (
                "rules = { lte = \"x\" }\nhold-dwon = \"1s\"",
                ExitReason::ConfigText,
                "did you mean `hold-down`?",
            ),
        ];
        for (steering, reason, piece) in cases {
            let (told_reason, text) = told(&format!("[steering]\n{steering}\n"));
            assert!(text.contains(piece), "{piece:?} is missing in\n{text}");
            assert_eq!(told_reason, reason, "{text}");
        }
    }
}
