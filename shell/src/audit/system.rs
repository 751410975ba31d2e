//! The router itself: version, user, service, certificate, flash and log.

use super::{Finding, Look, Severity, is, value};
use crate::exit::ExitReason;
use crate::routeros::{Record, TlsTrust, TransportKind, flag};

/// The first version without CVE-2025-10948.
const VERSION_FIXED: Version = Version { major: 7, minor: 20, patch: 1, test: None };
/// The test version of 7.21 in which CVE-2025-10948 was fixed.
const TEST_FIXED: Version = Version { major: 7, minor: 21, patch: 0, test: Some(2) };
/// A certificate that ends sooner is warned about.
const DAYS_LEFT_MIN: u64 = 30;
/// A longer RSA key makes a handshake of a small router take seconds.
const KEY_BITS_MAX: u64 = 2048;

/// How wanctl writes less, under either law.
const FEWER: &str = "lower writes-per-minute of [wan.adaptive], or write-limit of [wan.classic]";

/// A RouterOS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    major: u32,
    minor: u32,
    patch: u32,
    /// The number of a `beta`; a release candidate comes after every beta.
    test: Option<u32>,
}

impl Version {
    /// Reads `7.20.1 (stable)` or `7.21beta2 (testing)`.
    fn parse(text: &str) -> Option<Self> {
        let word = text.split_whitespace().next()?;
        let (numbers, test) = match (word.split_once("beta"), word.split_once("rc")) {
            (Some((numbers, beta)), _) => (numbers, Some(beta.parse().ok()?)),
            (None, Some((numbers, _))) => (numbers, Some(u32::MAX)),
            (None, None) => (word, None),
        };
        let mut numbers = numbers.split('.').map(str::parse::<u32>);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let patch = numbers.next().unwrap_or(Ok(0)).ok()?;
        Some(Self { major, minor, patch, test })
    }

    fn order(self) -> (u32, u32, u32, u64) {
        let Self { major, minor, patch, test } = self;
        (major, minor, patch, test.map_or(u64::MAX, u64::from))
    }

    fn is_fixed(self) -> bool {
        let is_test_of_its_branch = self.test.is_some() && (self.major, self.minor) == (7, 21);
        let first = if is_test_of_its_branch { TEST_FIXED } else { VERSION_FIXED };
        self.order() >= first.order()
    }
}

impl Look<'_> {
    pub(super) fn examine_version(&mut self, version: &str) {
        match Version::parse(version) {
            Some(parsed) if parsed.is_fixed() => {}
            Some(_) => self.warning(
                format!(
                    "RouterOS {version} has CVE-2025-10948: whoever may log in to REST can damage the \
                     memory of the web server"
                ),
                "/system/package/update/install, to 7.20.1 or later",
            ),
            None => self.note(
                format!("the RouterOS version {version:?} cannot be read"),
                "make sure that it is at least 7.20.1 (CVE-2025-10948)",
            ),
        }
    }

    pub(super) fn examine_system(&mut self) {
        self.examine_user();
        self.examine_service();
        self.examine_resource();
        self.examine_log();
    }

    fn examine_user(&mut self) {
        let name = &self.router.user;
        let Some(user) = self.row("/user", "name", name).cloned() else {
            if self.menus.contains_key("/user") {
                self.note(
                    format!(
                        "{name} is not among the router's own users, so its rights are unknown"
                    ),
                    "a user from RADIUS logs in slowly; give wanctl a local one",
                );
            }
            return;
        };
        if matches!(value(&user, "address").as_str(), "" | "0.0.0.0/0") {
            self.note(
                format!("user {name} may log in from every address"),
                format!("/user/set {name:?} address=ADDRESS, with that of this machine"),
            );
        }
        let group = value(&user, "group");
        let Some(record) = self.row("/user/group", "name", &group) else { return };
        let policy = value(record, "policy");
        let granted: Vec<&str> =
            policy.split(',').filter(|name| !name.is_empty() && !name.starts_with('!')).collect();
        let needed = self.router.transport.policies();
        let missing: Vec<&str> =
            needed.iter().copied().filter(|name| !granted.contains(name)).collect();
        let excess: Vec<&str> =
            granted.iter().copied().filter(|name| !needed.contains(name)).collect();
        let remedy =
            format!("/user/group/set {group:?} policy={}", least_policies(needed, &excess));
        if !missing.is_empty() {
            self.push(Finding {
                severity: Severity::Error,
                reason: ExitReason::RouterPermission,
                what: format!(
                    "user {name} (group {group}) lacks the policies {}: it cannot set any rate",
                    missing.join(", ")
                ),
                remedy: remedy.clone(),
            });
        }
        if !excess.is_empty() {
            self.warning(
                format!(
                    "user {name} (group {group}) may do more than wanctl needs: {}",
                    excess.join(", ")
                ),
                remedy,
            );
        }
    }

    fn examine_service(&mut self) {
        let router = self.router;
        let is_https = router.url.starts_with("https:");
        let (plain_name, name) = (router.transport.service(false), router.transport.service(true));
        if !is_https {
            let when = match router.transport {
                TransportKind::Rest => "with every request",
                TransportKind::Api => "at every login",
            };
            self.warning(
                format!("http:// sends the router's password in clear text {when}"),
                "url = \"https://...\", with the certificate of wanctl router-setup",
            );
            return;
        }
        if router.trust == TlsTrust::Insecure {
            self.warning(
                "insecure = true: nobody knows whose certificate this is".to_owned(),
                "ca-file = \"...\", exported with /certificate/export-certificate",
            );
        }
        let by_name = |name: &str| {
            let mut rows = self.rows("/ip/service").iter();
            rows.find(|row| is(row, "name", name) && !flag(row, "dynamic")).cloned()
        };
        let (plain, service) = (by_name(plain_name), by_name(name));
        if plain.is_some_and(|plain| !flag(&plain, "disabled")) {
            self.note(
                format!("the service {plain_name} is on: it takes passwords in clear text"),
                format!("/ip/service/disable {plain_name}"),
            );
        }
        let Some(service) = service else { return };
        if value(&service, "address").is_empty() {
            self.note(
                format!("the service {name} answers every address"),
                format!("/ip/service/set {name} address=NETWORK, with that of this machine"),
            );
        }
        if !is(&service, "tls-version", "only-1.2") {
            self.note(
                format!("the service {name} also speaks TLS 1.0 and 1.1"),
                format!("/ip/service/set {name} tls-version=only-1.2"),
            );
        }
        let name = value(&service, "certificate");
        if let Some(certificate) = self.row("/certificate", "name", &name).cloned() {
            self.examine_certificate(&name, &certificate);
        }
    }

    fn examine_certificate(&mut self, name: &str, certificate: &Record) {
        let renew = "make a new one as in wanctl router-setup";
        let days = days(&value(certificate, "expires-after"));
        if flag(certificate, "expired") || days == Some(0) {
            self.error(format!("the certificate {name} has expired, or does today"), renew);
        } else if let Some(days) = days.filter(|days| *days < DAYS_LEFT_MIN) {
            self.warning(
                format!(
                    "the certificate {name} expires in {days} days; wanctl then loses the router"
                ),
                renew,
            );
        }
        let bits = value(certificate, "key-size").parse().unwrap_or(0_u64);
        if bits > KEY_BITS_MAX {
            self.warning(
                format!(
                    "the certificate {name} has a key of {bits} bits: a handshake takes small routers \
                     seconds"
                ),
                format!("{renew}, with key-size=2048 or prime256v1"),
            );
        }
        if value(certificate, "subject-alt-name").is_empty() {
            self.warning(
                format!("the certificate {name} has no subject-alt-name: it cannot be verified"),
                renew,
            );
        }
    }

    fn examine_resource(&mut self) {
        let Some(resource) = self.rows("/system/resource").first().cloned() else { return };
        if !matches!(value(&resource, "bad-blocks").as_str(), "" | "0" | "0%") {
            self.warning(
                format!("the router's flash has bad blocks: {}", value(&resource, "bad-blocks")),
                format!("RouterOS keeps its configuration there: plan a replacement, and {FEWER}"),
            );
        }
        let sectors = value(&resource, "write-sect-since-reboot");
        if !sectors.is_empty() {
            self.note(
                format!(
                    "flash: {sectors} sectors written in {}, {} in all",
                    value(&resource, "uptime"),
                    value(&resource, "write-sect-total")
                ),
                format!("look again after a day of wanctl; if it writes too much, {FEWER}"),
            );
        }
    }

    /// Every write is logged by the router, under the topics system and info.
    fn examine_log(&mut self) {
        let is_of_write = |topic: &str| matches!(topic, "system" | "info");
        let takes_writes = |rule: &&Record| {
            let topics = value(rule, "topics");
            let mut topics = topics.split(',').filter(|topic| !topic.is_empty());
            let fits = topics.all(|topic| match topic.strip_prefix('!') {
                Some(excluded) => !is_of_write(excluded),
                None => is_of_write(topic),
            });
            fits && !flag(rule, "disabled")
        };
        let rules: Vec<Record> =
            self.rows("/system/logging").iter().filter(takes_writes).cloned().collect();
        for rule in rules {
            let (id, action) = (value(&rule, ".id"), value(&rule, "action"));
            let regex = value(&rule, "regex");
            if !regex.is_empty() {
                // It may well be there to keep wanctl out.
                continue;
            }
            let remedy = format!("/system/logging/set {id} topics=info,!system");
            if action == "disk" {
                self.warning(
                    format!("log rule {id} puts a line on the flash for each rate wanctl sets"),
                    remedy,
                );
            } else {
                self.note(
                    format!("log rule {id} ({action}) gets a line for each rate wanctl sets"),
                    format!("{remedy}, if that hides other lines; it hides all of topic system"),
                );
            }
        }
    }
}

/// Returns a policy list with what wanctl needs and without the rest.
fn least_policies(needed: &[&str], excess: &[&str]) -> String {
    let needed = needed.iter().map(|name| (*name).to_owned());
    needed.chain(excess.iter().map(|name| format!("!{name}"))).collect::<Vec<_>>().join(",")
}

/// Reads the whole days of a time such as `519w4d15h28m25s`; `None` if it has another form.
fn days(text: &str) -> Option<u64> {
    let mut days = 0_u64;
    let mut number = String::new();
    for letter in text.chars() {
        match letter {
            '0'..='9' => number.push(letter),
            'w' => days = days.checked_add(number.parse::<u64>().ok()?.checked_mul(7)?)?,
            'd' => days = days.checked_add(number.parse().ok()?)?,
            'h' | 'm' | 's' => {}
            _ => return None,
        }
        if !letter.is_ascii_digit() {
            number.clear();
        }
    }
    (!text.is_empty()).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_the_fix_are_told_from_those_without() {
        for fixed in
            ["7.20.1 (stable)", "7.21beta2 (testing)", "7.21rc1", "7.23.7 (long-term)", "8.0"]
        {
            assert!(Version::parse(fixed).unwrap().is_fixed(), "{fixed}");
        }
        for open in ["7.5 (stable)", "7.20 (stable)", "7.20rc3", "7.21beta1 (testing)", "7.1beta4"]
        {
            assert!(!Version::parse(open).unwrap().is_fixed(), "{open}");
        }
        for text in ["", "7", "RouterOS 7.20", "7.x", "7.21betaX"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn whole_days_are_read_from_the_routers_times() {
        for (text, expected) in [
            ("519w4d15h28m25s", Some(3637)),
            ("1d7h44m20s", Some(1)),
            ("15h2s", Some(0)),
            ("", None),
            ("tomorrow", None),
        ] {
            assert_eq!(days(text), expected, "{text}");
        }
    }
}
